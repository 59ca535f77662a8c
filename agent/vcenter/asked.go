package vcenter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
)

// errPurpose is something that is done in no server.
var errPurpose = errors.New("there is no such purpose")

// Purposes are those of some names.
func Purposes(names []string) (list []vmware.Purpose, err error) {
	for _, name := range names {
		if !slices.Contains(vmware.Purposes(), vmware.Purpose(name)) {
			return nil, fmt.Errorf("%w: %q; want %s", errPurpose, name, PurposeNames())
		}
		list = append(list, vmware.Purpose(name))
	}
	return list, nil
}

// PurposeNames are the names of all.
func PurposeNames() string {
	var names []string
	for _, p := range vmware.Purposes() {
		names = append(names, string(p))
	}
	return strings.Join(names, ", ")
}

// Library finds out whether VMware's library can be used, by its folder and nbdkit's
// plugin as transports know them. Where there is none, how to give one is told.
func Library(ctx context.Context, a transport.Access, how string) vmware.Finding {
	found := vmware.Finding{Code: "vsphere/vddk", Level: vmware.OK}
	if a.VDDK == "" {
		found.Text, found.Try = "VMware's VDDK is not given: disks are read in other ways", how
		return found
	}
	l, err := transport.ProbeVDDK(ctx, a)
	if err != nil {
		found.Level, found.Text = vmware.Warning, err.Error()
		return found
	}
	found.Text = fmt.Sprintf("VMware's VDDK %s is there, with the transports %s", l.Version, strings.Join(l.Modes, ", "))
	return found
}

// Programs are VMware's that may be here. None is needed.
func Programs(ctx context.Context) (list []vmware.Finding) {
	for _, h := range transport.Hooks(ctx, nil) {
		found := vmware.Finding{Code: "vsphere/" + h.Name, Level: vmware.OK, Text: fmt.Sprintf("%s %s is here: %s", h.Name, h.Version, h.Path)}
		if h.Missing != "" {
			found.Text = h.Missing + "; it is not needed"
		}
		list = append(list, found)
	}
	return list
}
