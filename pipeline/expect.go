package pipeline

import (
	"slices"

	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
)

// expectations are what the guest's own configuration says that it will be: a
// proof asks for all of it.
func expectations(f inspect.Facts, m machine.Machine) testers.Expect {
	e := testers.Expect{Hostname: f.OS.Hostname}
	for i, d := range m.Disks {
		e.Disks = append(e.Disks, testers.Disk{Serial: d.Serial, Size: d.Size})
		if root, ok := f.MountAt("/"); ok && onDisk(f, root.Device, i) {
			e.Root = d.Serial
		}
	}
	e.Mounts, e.Swaps = mountExpectation(f)
	for _, n := range m.NICs {
		e.NICs = append(e.NICs, nicExpectation(f, m, n))
	}
	return e
}

// mountExpectation is what fstab mounts by itself from the guest's own disks,
// but /, and how many devices it swaps to. What inspection did not find is not
// asked for: it may have been lost long before the migration.
func mountExpectation(f inspect.Facts) (folders []string, swaps int) {
	swapped := map[string]bool{}
	for _, m := range f.Mounts {
		entry := inspect.FstabEntry{Options: m.Options}
		switch {
		case m.Device == "" || m.Path == "/" || entry.Has("noauto") || entry.Has("x-systemd.automount"):
		case m.Type == "swap":
			swapped[m.Device] = true
		case m.Path != "none":
			folders = append(folders, m.Path)
		}
	}
	return folders, len(swapped)
}

// onDisk tells whether a device of the topology, or a part of a logical volume,
// lies on disk i.
func onDisk(f inspect.Facts, device string, i int) bool {
	if i >= len(f.Topology.Disks) {
		return false
	}
	d := f.Topology.Disks[i]
	on := []string{d.Name}
	for _, p := range d.Partitions {
		on = append(on, p.Name)
	}
	return slices.ContainsFunc(f.Beneath(device), func(name string) bool { return slices.Contains(on, name) })
}

// nicExpectation is what the configuration of one NIC asks for. The NIC is
// found by its MAC address: in the configuration, in a rule that names it, or
// because there is only one NIC and one interface.
func nicExpectation(f inspect.Facts, m machine.Machine, n machine.NIC) lan.Expect {
	e := lan.Expect{MAC: n.MAC}
	for _, i := range f.Network.Interfaces {
		if !configures(f, m, n, i) {
			continue
		}
		switch i.Method {
		case "static":
			e.Static = append(e.Static, i.Addresses...)
			if i.Gateway.IsValid() {
				e.Gateway = i.Gateway
			}
		case "dhcp":
			e.DHCP = true
		}
	}
	return e
}

func configures(f inspect.Facts, m machine.Machine, n machine.NIC, i inspect.Interface) bool {
	if i.Name == "lo" {
		return false
	}
	if i.MAC != "" {
		return i.MAC == n.MAC
	}
	pinned := false
	for _, p := range f.Network.Pins {
		if p.Name == i.Name && p.MAC != "" {
			if p.MAC == n.MAC {
				return true
			}
			pinned = true
		}
	}
	return !pinned && len(m.NICs) == 1 && len(physical(f)) == 1
}

// physical are the names of the configured interfaces that are not the loopback.
func physical(f inspect.Facts) map[string]bool {
	names := map[string]bool{}
	for _, i := range f.Network.Interfaces {
		if i.Name != "lo" {
			names[i.Name] = true
		}
	}
	return names
}
