package direct

import (
	"os"
	"slices"
	"testing"
	"time"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/fixers/guest/otherkernel"
)

func TestMain(m *testing.M) { otherkernel.Main(m) }

// TestAFullKernelShowsAll runs the tests of this package under a kernel that has
// device-mapper, FAT and btrfs, whatever this machine's has: those that need one of
// these, and a few of the others to see that an older kernel is as good.
func TestAFullKernelShowsAll(t *testing.T) {
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts a virtual machine: set NEED_VMS=1")
	}
	otherkernel.Machine{
		Programs: slices.Concat(guesttest.Programs, guesttest.VolumePrograms, []string{"mkfs.vfat", "mkfs.btrfs", "dmsetup"}),
		Files:    []string{"/etc/mke2fs.conf"},
		Modules:  []string{"loop", "dm-mod", "vfat", "nls_cp437", "nls_ascii", "xfs", "btrfs"},
		Tests: "^Test(AVolumeInPiecesIsAnEngine|WhatADeadAgentLeft.*|DmsetupSeesOurTable|AServersVolumes.*|FATIsShown.*|" +
			"BtrfsIsAnEngine|ClonesOf.*|AKilledAgentLeavesNothingMounted|ProbeSaysYesByUsingIt|TheKernelsReasonIsTold)$",
		Limit: 6 * time.Minute,
	}.Run(t)
}
