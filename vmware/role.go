package vmware

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// RoleForm is a way to bring a role into a vCenter.
type RoleForm string

// Ways to bring a role into a vCenter.
const (
	RoleJSON     RoleForm = "json"     // for programs
	RoleGovc     RoleForm = "govc"     // a shell script
	RolePowerCLI RoleForm = "powercli" // a PowerShell script
)

// WriteRole writes the least role for purposes, for all without any, so that it can
// be imported. A name that could be mistaken for something else in a script is refused.
func WriteRole(w io.Writer, form RoleForm, name string, purposes ...Purpose) error {
	if name == "" || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("the role's name %q: want letters, digits, spaces, - and _", name)
	}
	privileges := Privileges(purposes...)
	var text bytes.Buffer
	switch form {
	case RoleJSON:
		data, err := json.MarshalIndent(map[string]any{"name": name, "privileges": privileges}, "", "  ")
		if err != nil {
			return err
		}
		text.Write(append(data, '\n'))
	case RoleGovc:
		fmt.Fprintf(&text, govcRole, name, strings.Join(privileges, " \\\n  "))
	case RolePowerCLI:
		fmt.Fprintf(&text, powerCLIRole, name, strings.Join(privileges, "',\n  '"))
	default:
		return fmt.Errorf("the form %q of a role: want %s, %s or %s", form, RoleJSON, RoleGovc, RolePowerCLI)
	}
	_, err := w.Write(text.Bytes())
	return err
}

func odd(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(" -_", r)
}

const govcRole = `#!/bin/sh
# Makes the role in the vCenter of GOVC_URL. Then give it to the user, propagated, on
# the root folder, or on the folders, hosts, datastores and networks of the VMs:
#   govc permissions.set -principal USER@DOMAIN -role '%[1]s' -propagate /
set -eu
govc role.create '%[1]s' \
  %[2]s
`

const powerCLIRole = `# Makes the role in the vCenter that Connect-VIServer reached. Then give it to the user:
#   New-VIPermission -Entity (Get-Folder -NoRecursion) -Principal 'DOMAIN\USER' -Role '%[1]s' -Propagate $true
New-VIRole -Name '%[1]s' -Privilege (Get-VIPrivilege -Id @(
  '%[2]s'
))
`
