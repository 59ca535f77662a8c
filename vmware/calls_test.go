package vmware

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25/types"
)

var update = flag.Bool("update", false, "write docs/vsphere-calls.md anew")

// TestMain fails if any test of this package made a call that is not in the table.
func TestMain(m *testing.M) {
	known, strange, mu := map[string]bool{}, map[string]bool{}, sync.Mutex{}
	for _, c := range Calls() {
		known[c.Method] = true
	}
	said = func(method string) {
		mu.Lock()
		defer mu.Unlock()
		if !known[method] {
			strange[method] = true
		}
	}
	code := m.Run()
	if len(strange) > 0 {
		fmt.Fprintf(os.Stderr, "calls.go does not have calls that were made: %v\n", slices.Sorted(maps.Keys(strange)))
		code = max(code, 1)
	}
	os.Exit(code)
}

func TestTheTableOfCallsIsWhole(t *testing.T) {
	repeat := map[string]bool{}
	for i, c := range Calls() {
		if c.Method == "" || c.Object == "" || c.Why == "" || !slices.Contains(Purposes(), c.For) {
			t.Errorf("row %d lacks something: %+v", i, c)
		}
		if was, ok := repeat[c.Method]; ok && was != c.Repeat {
			t.Errorf("rows of %s differ on whether it may be repeated", c.Method)
		}
		repeat[c.Method] = c.Repeat
		if c.Repeat && strings.HasSuffix(c.Method, "_Task") {
			t.Errorf("%s changes something and may not be repeated", c.Method)
		}
	}
	for _, p := range Privileges() {
		if !granted(p) {
			t.Errorf("vCenter has no privilege %s", p)
		}
	}
}

// granted is whether any role of the simulator, whose roles are a vCenter's, has a
// privilege.
func granted(p string) bool {
	return slices.ContainsFunc(esx.RoleList, func(r types.AuthorizationRole) bool { return slices.Contains(r.Privilege, p) })
}

func TestPrivilegesOfAPurpose(t *testing.T) {
	want := []string{"VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RemoveSnapshot"}
	if diff := cmp.Diff(want, Privileges(ForSnapshots)); diff != "" {
		t.Error(diff)
	}
	if got := Privileges(ForInventory); len(got) != 0 {
		t.Errorf("to look around it needs %v, want what every role has", got)
	}
}

func TestRolesCanBeImported(t *testing.T) {
	var out bytes.Buffer
	if err := WriteRole(&out, RoleJSON, "hyper2kvm", ForSnapshots, ForNFC); err != nil {
		t.Fatal(err)
	}
	var role struct {
		Name       string
		Privileges []string
	}
	if err := json.Unmarshal(out.Bytes(), &role); err != nil {
		t.Fatal(err)
	}
	if role.Name != "hyper2kvm" || !slices.Equal(role.Privileges, Privileges(ForSnapshots, ForNFC)) {
		t.Errorf("the role is %+v", role)
	}
	for form, says := range map[RoleForm]string{
		RoleGovc:     "govc role.create 'cold only' \\\n  VApp.Export\n",
		RolePowerCLI: "New-VIRole -Name 'cold only' -Privilege (Get-VIPrivilege -Id @(\n  'VApp.Export'\n))",
	} {
		out.Reset()
		if err := WriteRole(&out, form, "cold only", ForNFC); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), says) {
			t.Errorf("%s: %s lacks %s", form, out.String(), says)
		}
	}
	for _, name := range []string{"", "a'; rm -rf /", "a\nb"} {
		if err := WriteRole(&out, RoleGovc, name); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
	if err := WriteRole(&out, "xml", "hyper2kvm"); err == nil {
		t.Error("an unknown form was accepted")
	}
}

func TestTheDocsHaveTheTableOfCalls(t *testing.T) {
	var want bytes.Buffer
	writeCalls(&want)
	docsHave(t, "vsphere-calls.md", want.Bytes())
}

// docsHave wants a page of the docs to be what is generated, or makes it so.
func docsHave(t *testing.T, page string, want []byte) {
	t.Helper()
	file := "../docs/" + page
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/%s is not what the code says: run make generate", page)
	}
}

// writeCalls writes the page of the docs.
func writeCalls(w *bytes.Buffer) {
	w.WriteString(`# Calls to vSphere, and the privileges that they need

This page is made of the table in ` + "`vmware/calls.go`" + ` by ` + "`make generate`" + `. Tests fail when
the program makes a call that the table does not have, whichever part of it calls.

Every role has System.Anonymous, System.View and System.Read; they are not listed. What is
asked for on a VM is best given on a folder of VMs, propagated; "root" is the inventory's root
folder, "appliance folder" the one that the appliance's VM lies in, and "pool" that VM's
resource pool. Unused purposes need no privileges: of https, nfc, vddk and hotadd one is enough.

`)
	for _, p := range Purposes() {
		fmt.Fprintf(w, "## %s\n\n| call | of | why | privileges |\n|---|---|---|---|\n", p)
		for _, c := range Calls() {
			if c.For == p {
				fmt.Fprintf(w, "| %s | %s | %s | %s |\n", c.Method, c.Object, c.Why, needsText(c.Needs))
			}
		}
		w.WriteString("\n")
	}
	w.WriteString("## The whole role\n\n")
	for _, p := range Privileges() {
		fmt.Fprintf(w, "- %s\n", p)
	}
}

func needsText(needs []Need) string {
	var parts []string
	for _, n := range needs {
		parts = append(parts, fmt.Sprintf("%s on the %s", n.Privilege, n.On))
	}
	return strings.Join(parts, ", ")
}
