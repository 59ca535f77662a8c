package linux

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/inspect"
)

const (
	byID       = "/dev/disk/by-id/"
	byUUID     = "/dev/disk/by-uuid/"
	byPartUUID = "/dev/disk/by-partuuid/"
	// byVirtioSerial is udev's name of a virtio-blk disk with a serial number,
	// in 60-persistent-storage.rules.
	byVirtioSerial = byID + "virtio-"
)

// unstable tells whether a name must be replaced. The name that a disk has on
// KVM by its serial number is one that fixers of this package write.
func unstable(spec string) bool {
	return inspect.Unstable(spec) && !strings.HasPrefix(spec, byVirtioSerial)
}

// stableName finds the name that the device behind an unstable one keeps: its
// UUID, else its PARTUUID, else, when a clone in the same guest has both too,
// the serial number of its disk on KVM.
func stableName(in fixer.Input, spec string) (string, bool) {
	device, ok := deviceOf(in, spec)
	if !ok {
		return "", false
	}
	if name, ok := in.Facts.Stable(device); ok {
		return name, true
	}
	return serialName(in, device)
}

// deviceOf finds the disk or partition behind a name. What fstab names as the
// root is the file system on which inspection found that fstab, even when the
// name itself tells nothing.
func deviceOf(in fixer.Input, spec string) (string, bool) {
	if device, ok := in.Facts.Resolve(spec, in.Machine); ok {
		return device, true
	}
	root, ok := in.Facts.MountAt("/")
	return root.Device, ok && root.Device != "" && root.Spec == spec
}

// partUUID finds the PARTUUID behind a name, if no other partition of the guest
// has the same.
func partUUID(in fixer.Input, spec string) (string, bool) {
	device, ok := deviceOf(in, spec)
	if !ok {
		return "", false
	}
	duplicates := in.Facts.Duplicates()
	for _, d := range in.Facts.Topology.Disks {
		for _, p := range d.Partitions {
			name := "PARTUUID=" + p.UUID
			if p.Name == device && p.UUID != "" && len(duplicates[name]) == 0 {
				return name, true
			}
		}
	}
	return "", false
}

var topologyName = regexp.MustCompile(`^disk(\d{1,4})(?:p(\d+))?$`)

// serialName is the name under /dev/disk/by-id that a disk of the topology, or
// a partition on it, has on KVM's virtio-blk.
func serialName(in fixer.Input, device string) (string, bool) {
	serial, partition, ok := serialOf(in, device)
	if !ok {
		return "", false
	}
	if partition != "" {
		partition = "-part" + partition
	}
	return byVirtioSerial + serial + partition, true
}

// serialOf is the serial number that the disk of a device of the topology has on
// KVM, and the number of the partition that the device is, or "".
func serialOf(in fixer.Input, device string) (serial, partition string, ok bool) {
	m := topologyName.FindStringSubmatch(device)
	if m == nil {
		return "", "", false
	}
	i, err := strconv.Atoi(m[1])
	if err != nil || i >= len(in.Machine.Disks) || in.Machine.Disks[i].Serial == "" {
		return "", "", false
	}
	return in.Machine.Disks[i].Serial, m[2], true
}

// linkOf turns UUID=… and PARTUUID=… into the link that udev makes for it, for
// programs that take a path only. Other names are paths already.
func linkOf(name string) string {
	if id, ok := strings.CutPrefix(name, "UUID="); ok {
		return byUUID + id
	}
	if id, ok := strings.CutPrefix(name, "PARTUUID="); ok {
		return byPartUUID + id
	}
	return name
}

// bySerial warns of a name that holds on virtio-blk only.
func bySerial(where, spec, name string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/named-by-serial",
		Text:  fmt.Sprintf("%s: %s has no UUID and no PARTUUID of its own in this guest and is now %s, which needs the disk on virtio with this serial number", where, spec, name),
		Try:   "give the clone another UUID (tune2fs -U random, xfs_admin -U generate, mkswap) and name it by that",
	}
}
