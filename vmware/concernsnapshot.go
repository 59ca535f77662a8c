package vmware

import "fmt"

// mostSnapshotsBefore leaves room below VMware's 32 for those of a migration.
//
// Source: VMware KB 1025279; MTV documentation, "28 snapshots".
const mostSnapshotsBefore = 28

// snapshotChecks look at snapshots and at whether changes can be tracked.
//
// Source: VMware KB 1020128, Changed Block Tracking: hardware version 7, no snapshots
// while it is turned on, and a stun before it counts; KB 1025279 on snapshots.
var snapshotChecks = []check{
	{"vsphere/too-many-snapshots", Blocker, func(vm VM, _ Around) []string {
		n := len(line(vm.Snapshots, vm.Snapshot))
		return when(n > mostSnapshotsBefore, fmt.Sprintf("%d snapshots stand on each other; vSphere takes 32, and a migration needs some", n))
	}, "delete those that are not needed"},
	{"vsphere/snapshots", Warning, func(vm VM, _ Around) []string {
		n := CountSnapshots(vm.Snapshots)
		return when(n > 0, fmt.Sprintf("it has %d snapshots; the migration takes the present state only, and reads it more slowly", n))
	}, "delete them in vSphere if they are not needed; the migration leaves them as they are"},
	{"vsphere/consolidation", Warning, func(vm VM, _ Around) []string {
		return when(vm.Consolidate, "the server says that its disks need consolidation: files of deleted snapshots are still in use")
	}, "consolidate its disks in vSphere"},
	{"vsphere/cbt-impossible", Warning, func(vm VM, _ Around) []string {
		v := hardwareVersion(vm.Hardware)
		old := v > 0 && v < oldestTracked
		return when(old || !vm.CBTSupported && !vm.unsaid("cbt_supported"), "changes of its disks cannot be tracked ("+vm.Hardware+"), so a warm migration would compare all that it has")
	}, "migrate it cold, or upgrade its hardware version to 7 or later"},
	{"vsphere/cbt-off", Info, func(vm VM, _ Around) []string {
		return when(!vm.CBT && vm.CBTSupported && !vm.unsaid("cbt"), "changes of its disks are not tracked")
	}, "nothing for a cold migration; a warm one turns it on, and off again at its end"},
	{"vsphere/cbt-snapshots", Warning, func(vm VM, _ Around) []string {
		return when(!vm.CBT && CountSnapshots(vm.Snapshots) > 0 && !vm.unsaid("cbt"), "changes are not tracked, and while it has snapshots that cannot be turned on")
	}, "delete its snapshots before a warm migration"},
	{"vsphere/cbt-disk", Warning, func(vm VM, _ Around) []string {
		return eachDisk(vm, func(d Disk) bool {
			return vm.CBT && vm.Power == On && trackable(d) && d.ChangeID == "" && !vm.unsaid("disks.change_id")
		}, func(Disk) string {
			return "changes are to be tracked, and are not: it has no change ID"
		})
	}, "take a snapshot and delete it, or power the VM off and on; look for ctkEnabled = FALSE in its settings"},
}

// trackable tells whether changes of a disk can be tracked at all.
func trackable(d Disk) bool {
	return d.Kind != "rdm-physical" && d.Kind != "raw" && d.Kind != "pmem" && d.BusSharing == "" && d.Mode == "persistent"
}

// CountSnapshots is how many there are, with those that stand on others.
func CountSnapshots(tree []Snapshot) int {
	n := len(tree)
	for _, s := range tree {
		n += CountSnapshots(s.Children)
	}
	return n
}
