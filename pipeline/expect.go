package pipeline

import (
	"fmt"
	"slices"

	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
)

// expectations are what the guest's own configuration says that it will be: a
// proof asks for all of it. The guest as it was found says what it must not have
// lost on the way, and as it is fixed, how its network is to be and what names
// lead to a file system by now.
func expectations(found, fixed inspect.Facts, m machine.Machine) testers.Expect {
	e := testers.Expect{Hostname: found.OS.Hostname, MachineID: found.OS.MachineID}
	root, ok := found.MountAt("/")
	if ok {
		at := mountOf(found, root)
		e.RootUUID, e.RootSubvolume, e.ReadOnly = at.UUID, at.Subvolume, at.ReadOnly
	}
	for i, d := range m.Disks {
		e.Disks = append(e.Disks, testers.Disk{Serial: d.Serial, Size: d.Size})
		if ok && onDisk(found, root.Device, i) {
			e.Roots = append(e.Roots, d.Serial)
		}
	}
	e.Mounts, e.Swaps = mountExpectation(found)
	mounts, swaps := mountExpectation(fixed)
	e.Swaps = max(e.Swaps, swaps)
	for _, m := range mounts {
		if !slices.ContainsFunc(e.Mounts, func(o testers.Mount) bool { return o.Path == m.Path }) {
			e.Mounts = append(e.Mounts, m)
		}
	}
	before := found.Cards(m)
	was := before.On()
	for n, layers := range fixed.Cards(m).On() {
		want := nicExpectation(m.NICs[n].MAC, layers)
		if !want.DHCP && len(want.Static) == 0 && len(want.Unasked) == 0 {
			want = nicExpectation(m.NICs[n].MAC, was[n])
		}
		e.NICs = append(e.NICs, want)
	}
	e.MayFail = lostBefore(before)
	return e
}

// mountExpectation is what fstab mounts by itself from the guest's own disks,
// but /, and how many devices it swaps to. What inspection did not find is not
// asked for: it may have been lost long before the migration.
func mountExpectation(f inspect.Facts) (mounts []testers.Mount, swaps int) {
	swapped := map[string]bool{}
	for _, m := range f.Mounts {
		entry := inspect.FstabEntry{Options: m.Options}
		switch {
		case m.Device == "" || m.Path == "/" || entry.Has("noauto") || entry.Has("x-systemd.automount"):
		case m.Type == "swap":
			swapped[m.Device] = true
		case m.Path != "none":
			mounts = append(mounts, mountOf(f, m))
		}
	}
	return mounts, len(swapped)
}

// neverWritable are file systems that Linux only reads.
var neverWritable = []string{"cramfs", "erofs", "iso9660", "squashfs"}

func mountOf(f inspect.Facts, m inspect.Mount) testers.Mount {
	entry := inspect.FstabEntry{Options: m.Options}
	filesystem, _ := f.Filesystem(m.Device)
	subvolume, _ := f.SubvolumeOf(m)
	return testers.Mount{Path: m.Path, UUID: filesystem.UUID, Subvolume: m.Subvolume,
		ReadOnly: subvolume.ReadOnly || entry.Has("ro") || slices.Contains(neverWritable, filesystem.Type)}
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

// nicExpectation is what the configuration of one NIC asks for, and that of the
// bonds and bridges that lie on it alone. The rest is said not to be asked.
func nicExpectation(mac string, layers []inspect.Layer) lan.Expect {
	e := lan.Expect{MAC: mac}
	for _, l := range layers {
		if why := notAsked(l); why != "" {
			e.Unasked = append(e.Unasked, fmt.Sprintf("%s (%s): %s", l.Source, l.Name, why))
			e.OtherWays = e.OtherWays || l.Method != inspect.Auto
			continue
		}
		e.Static = append(e.Static, l.Addresses...)
		e.DHCP = e.DHCP || l.Method == inspect.DHCP
		if !e.Gateway.IsValid() {
			e.Gateway = l.Gateway
		}
		if !e.Gateway6.IsValid() {
			e.Gateway6 = l.Gateway6
		}
	}
	return e
}

// notAsked is why a configuration's addresses are not expected of the card;
// "" when they are, or when it has none.
func notAsked(l inspect.Layer) string {
	switch {
	case l.Method == inspect.Manual:
		return ""
	case l.Off:
		return "it is not brought up at boot"
	case l.Tagged:
		return "it is a " + l.Kind + " on the card, and only what the card itself says on its network is asked for"
	case l.Shared:
		return "it is over several cards, and through which of them it speaks is not known"
	case l.Contested:
		return "it fits several cards, and which of them has it is not known"
	case l.Method == inspect.Auto:
		return "no addresses are given out for IPv6 in the test"
	}
	return ""
}

// lostBefore are the units that fail where an interface is configured that no
// card has, on VMware as on KVM: they wait for it, or cannot bring it up.
func lostBefore(cards *inspect.Cards) []string {
	var units []string
	for _, i := range cards.Lost() {
		if unit := waiting[i.By]; unit != "" && !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	return units
}

// waiting are the units by what brings interfaces up. ifupdown's "auto" and the
// service network fail themselves. NetworkManager waits for no card, and wicked's
// ifup is always a success to systemd.
//
// Source: ifupdown's networking.service; initscripts' network;
// systemd-networkd-wait-online.service(8); wicked's client/ifup.c.
var waiting = map[string]string{
	inspect.ByIfupdown:    "networking.service",
	inspect.ByInitscripts: "network.service",
	inspect.ByNetworkd:    "systemd-networkd-wait-online.service",
}
