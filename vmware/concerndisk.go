package vmware

import (
	"fmt"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// diskChecks look at a VM's disks.
//
// Source: vSphere Virtual Disk Development Kit guide, "Changed Block Tracking on
// Virtual Disks" and "Managing Disk Backups"; VMware KB 1034165 (multi-writer).
var diskChecks = []check{
	{"vsphere/no-disks", Warning, func(vm VM, _ Around) []string {
		return when(len(vm.Disks) == 0 && !vm.unsaid("disks"), "it has no disk")
	}, "migrate it only if it boots from the network"},
	{"vsphere/rdm", Blocker, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool { return d.Kind == "rdm-physical" || d.Kind == "raw" }, func(d Disk) string {
			return "it is a raw device of the SAN (" + d.Device + ") in physical mode, which no snapshot holds and no export has"
		})
	}, "shut the VM down and change the disk to virtual mode, copy it to a VMDK, or leave it out and connect the LUN to the result"},
	{"vsphere/rdm", Warning, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool { return d.Kind == "rdm-virtual" }, func(d Disk) string {
			return "it is a raw device of the SAN (" + d.Device + ") in virtual mode"
		})
	}, "it is copied whole like any disk; leave it out if the LUN is to be connected to the result instead"},
	{"vsphere/shared-disk", Blocker, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool { return d.shared() != "" }, func(d Disk) string {
			return "other VMs may write to it (" + d.shared() + ")"
		})
	}, "shut all VMs of the cluster down, migrate the disk with one of them, and share it on the target by hand"},
	{"vsphere/independent-disk", Blocker, func(vm VM, a Around) []string {
		return independent(vm, a.Live && vm.Power == On)
	}, "shut the VM down first, or migrate it cold; or make the disk dependent, which needs the VM off"},
	{"vsphere/independent-disk", Warning, func(vm VM, a Around) []string {
		return independent(vm, !a.Live || vm.Power != On)
	}, "migrate the VM cold, or shut it down and make the disk dependent"},
	{"vsphere/volatile-disk", Warning, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool {
			return d.Mode == "nonpersistent" || strings.HasSuffix(d.Mode, "_nonpersistent") || d.Mode == "undoable" || d.Mode == "append"
		}, func(d Disk) string {
			return "its mode is " + d.mode() + ": what the guest writes is thrown away when it is powered off"
		})
	}, "the result keeps what is written; make its disk volatile there if that is meant"},
	{"vsphere/disk-kind", Blocker, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool {
			return d.Kind == "pmem" || d.Kind == "" && !vm.unsaid("disks.kind") || d.Bus == "pmem"
		}, func(d Disk) string {
			return "it is in persistent memory of its host, or in a way that is not known"
		})
	}, "move it to a datastore as a VMDK"},
	{"vsphere/encrypted", Blocker, func(vm VM, _ Around) []string {
		texts := when(vm.Encrypted, "its files are encrypted by vSphere")
		return append(texts, eachDisk(vm, func(d Disk) bool { return d.Encrypted }, func(Disk) string { return "it is encrypted by vSphere" })...)
	}, "change its storage policy to one without encryption; this needs the VM off"},
	{"vsphere/datastore-unreachable", Blocker, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool { return !d.Reachable }, func(d Disk) string { return "its datastore " + d.Datastore + " cannot be reached" })
	}, "mend the storage, or register the VM where its datastore is there"},
	{"vsphere/disk-size", Blocker, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool { return d.Size <= 0 || d.Size%512 != 0 }, func(d Disk) string {
			return fmt.Sprintf("its size of %d bytes is not one of whole sectors", d.Size)
		})
	}, "look at the disk in vSphere: it is broken, or the server does not tell the truth"},
	{"vsphere/disk-count", Blocker, func(vm VM, _ Around) []string {
		return when(len(vm.Disks) > machine.MostDisks, fmt.Sprintf("it has %d disks, and KVM takes %d", len(vm.Disks), machine.MostDisks))
	}, "join disks in the guest, or leave some out"},
	{"vsphere/io-filter", Warning, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool { return len(d.Filters) > 0 }, func(d Disk) string {
			return "its data pass through IO filters: " + strings.Join(d.Filters, ", ")
		})
	}, "take the filters off by its storage policy if what is read is not what the guest sees, as with encryption or a cache that writes later"},
	{"vsphere/linked-clone", Warning, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool { return d.LinkedClone }, func(d Disk) string {
			return "it stands on another VM's disk: " + d.Files[len(d.Files)-1]
		})
	}, "it is read whole, with what it stands on; keep the other VM until the migration is done"},
	{"vsphere/disk-uuid", Info, func(vm VM, _ Around) []string {
		return when(len(vm.Disks) > 0 && !vm.DiskUUID && !vm.unsaid("disk_uuid"), "its disks show no UUIDs to the guest (disk.EnableUUID is not set)")
	}, "nothing, as a rule: names by UUID of VMware's disks are not in use then"},
}

// independent tells of disks that are in no snapshot, if that is asked for.
func independent(vm VM, asked bool) []string {
	return eachDisk(vm, func(d Disk) bool { return asked && strings.HasPrefix(d.Mode, "independent") }, func(d Disk) string {
		return "it is " + d.mode() + ": no snapshot holds it, so it cannot be read while the VM runs"
	})
}

// bytesText is a size for people.
func bytesText(n int64) string {
	for _, unit := range []string{"bytes", "KiB", "MiB", "GiB"} {
		if n < 10240 && n > -10240 {
			return fmt.Sprintf("%d %s", n, unit)
		}
		n >>= 10
	}
	return fmt.Sprintf("%d TiB", n)
}
