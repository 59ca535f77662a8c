package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/target"
	"hyper2kvm/testers"
	"hyper2kvm/testers/libvirt"
	"hyper2kvm/testers/qemu"
	"hyper2kvm/testers/watch"
)

// What runs the machine that is tested.
const (
	WithQEMU    = "" // QEMU itself, on the hardware of the emitted domain
	WithLibvirt = "libvirt"
)

// hypervisor runs the machine that is tested.
type hypervisor struct {
	// boot runs one machine and observes it.
	boot func(ctx context.Context, s watch.Spec) (testers.Session, error)
	// ready tells whether boot can work; it is asked before the first stage runs.
	ready func(ctx context.Context, daemon string) error
}

// hypervisors by Options.With.
var hypervisors = map[string]hypervisor{
	WithQEMU:    {qemu.Boot, func(context.Context, string) error { return nil }},
	WithLibvirt: {libvirt.Boot, libvirt.Check},
}

// needsWhole tells whether a guest may need instructions that the first x86-64 had not, and
// that an emulator may have wrong. Distributions that are built for any x86-64 do not, up
// to a version; who is not known may.
//
// Source: Red Hat Developer, "Building Red Hat Enterprise Linux 9 for the x86-64-v2
// microarchitecture level".
func needsWhole(o inspect.OS) bool {
	most, known := map[string]int{"debian": anyVersion, "ubuntu": anyVersion, "alpine": anyVersion, "rhel": 8, "centos": 8, "rocky": 8, "almalinux": 8, "ol": 8,
		"sles": 15, "opensuse-leap": 15}[o.Distro]
	major, err := strconv.Atoi(strings.SplitN(o.Version, ".", 2)[0])
	return !known || most != anyVersion && (err != nil || major > most)
}

// anyVersion is each that there is until now.
const anyVersion = 0

// maxXML bounds the libvirt XML in bytes; ours has some ten thousand.
const maxXML = 1 << 20

// emitted is the libvirt XML that the operator has or, where nothing was
// converted, would get.
func (r *Run) emitted() (string, error) {
	if r.Stage("convert").State != Done {
		var disks []target.Disk
		for i := range r.Domain.Disks {
			to := r.target(i)
			disks = append(disks, target.Disk{Path: to.Path, Format: to.Format})
		}
		return target.LibvirtXML(*r.Domain, disks)
	}
	f, err := os.Open(r.XMLPath())
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s is gone", ErrRecord, r.XMLPath())
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxXML))
	return string(text), err
}
