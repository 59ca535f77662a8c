package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/machine"
)

// Errors of Inspect that the operator can act on. Their text names what was
// seen on the disks.
var (
	// ErrNoOS is a guest on whose readable file systems no operating system is
	// installed: it may be encrypted, or on what the engine does not assemble.
	ErrNoOS = errors.New("no operating system found")
	// ErrManyRoots is a guest with several operating systems of equal right.
	ErrManyRoots = errors.New("more than one operating system found")
	// ErrMount is a file system that the guest cannot do without and that the
	// engine cannot mount.
	ErrMount = errors.New("a vital file system cannot be mounted")
)

// Inspect finds the guest's root file system, mounts what the guest would
// mount, and reads the facts. The file systems stay mounted. What cannot be
// read or mounted and is not vital is in the facts' Problems.
func Inspect(ctx context.Context, g guest.Guest, m machine.Machine, log *slog.Logger) (Facts, error) {
	return Checked(ctx, g, m, log, nil)
}

// Checked is Inspect, and has check called as soon as it is known what the guest
// mounts, with nothing mounted. Files are read afterwards, and stay mounted: whoever
// reads them once more finds them in memory.
func Checked(ctx context.Context, g guest.Guest, m machine.Machine, log *slog.Logger, check func(Facts) error) (Facts, error) {
	f := Facts{Topology: g.Topology()}
	seen, err := survey(ctx, g, f, m)
	if err != nil {
		return Facts{}, err
	}
	if err := g.Err(); err != nil {
		return Facts{}, err
	}
	f.Topology = g.Topology() // with what the mounts have shown
	root, err := choose(f, m, seen)
	if err != nil {
		return Facts{}, err
	}
	log.Info("root file system found", "device", within(root.device, root.subvolume), "family", root.family)
	if err := root.mount(g); err != nil {
		return Facts{}, err
	}
	t := openFiles(g)
	t.ofTopology(f)
	if root.family == Windows {
		f.OS = OS{Family: Windows, Source: root.evidence}
		f.Mounts = []Mount{{Device: root.device, Path: "/", Type: "ntfs", Source: root.evidence}}
	} else {
		f.Aliases = t.crypttab(f, m, t.aliases(f))
		f.Mounts = t.mounts(f, m, root)
	}
	if check != nil {
		if err := checked(g, f, root, check); err != nil {
			return Facts{}, err
		}
	}
	if root.family != Windows {
		if err := t.mountAll(ctx, g, f); err != nil {
			return Facts{}, err
		}
		if err := t.linux(ctx, &f); err != nil {
			return Facts{}, err
		}
		t.arguments(f, m)
	}
	if err := g.Err(); err != nil {
		return Facts{}, err
	}
	f.Firmware = t.firmware(f, m, seen)
	f.Problems = t.problems
	f.fill()
	for _, p := range f.Problems {
		log.Warn("inspection is incomplete", "what", p.Value, "source", p.Source)
	}
	return f, context.Cause(ctx)
}

// mount mounts the root that was found.
func (s sight) mount(g guest.Guest) error {
	if err := (Mount{Device: s.device, Subvolume: s.subvolume.ID}).put(g, "/"); err != nil {
		return fmt.Errorf("%w: %s at /: %w", ErrMount, s.device, err)
	}
	return nil
}

// checked calls check with nothing mounted, and mounts the root again.
func checked(g guest.Guest, f Facts, root sight, check func(Facts) error) error {
	if err := errors.Join(g.Err(), g.UnmountAll()); err != nil {
		return err
	}
	if err := check(f); err != nil {
		return err
	}
	return root.mount(g)
}

// Remount mounts again what Inspect had mounted when it found these facts. What
// could not be mounted then may fail again; the facts tell of it.
func Remount(ctx context.Context, g guest.Guest, f Facts) error {
	root, _ := f.MountAt("/")
	if err := root.put(g, "/"); err != nil {
		return fmt.Errorf("%w: %s at /: %w", ErrMount, root.Device, err)
	}
	return openFiles(g).mountAll(ctx, g, f)
}

// linux reads the facts of a mounted Linux guest.
func (t *files) linux(ctx context.Context, f *Facts) error {
	f.OS = t.linuxOS()
	packages := t.packages()
	if f.OS.Systemd == 0 {
		f.OS.Systemd = leadingNumber(packages.version("systemd"))
	}
	f.Init = t.init()
	esps := t.espFolders(*f)
	f.Bootloaders = t.bootloaders(esps)
	entries := t.entries(*f, esps)
	var err error
	if f.Kernels, err = t.kernels(ctx, *f, entries); err != nil {
		return err
	}
	f.SELinux = t.selinux(f.Kernels)
	f.Network = t.network()
	f.VMware = t.vmware(packages)
	f.Agents = t.agents(packages)
	return nil
}

// fill makes lists that are empty out of those that are not there, so that
// JSON's readers need no case for them.
func (f *Facts) fill() {
	f.Mounts = append([]Mount{}, f.Mounts...)
	f.Bootloaders = append([]Bootloader{}, f.Bootloaders...)
	f.Kernels = append([]Kernel{}, f.Kernels...)
	f.Network.Stacks = append([]Found{}, f.Network.Stacks...)
	f.Network.Interfaces = append([]Interface{}, f.Network.Interfaces...)
	f.Network.Pins = append([]Pin{}, f.Network.Pins...)
	f.VMware = append([]Leftover{}, f.VMware...)
	f.Agents = append([]Found{}, f.Agents...)
}
