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
// device-mapper, its encryption, md, FAT and btrfs, whatever this machine's has: those that need one of
// these, and a few of the others to see that an older kernel is as good.
func TestAFullKernelShowsAll(t *testing.T) {
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts a virtual machine: set NEED_VMS=1")
	}
	needLocked(t)
	data := map[string][]byte{}
	for name, disks := range guesttest.Kept(t) {
		data["/kept/"+name] = disks
	}
	otherkernel.Machine{
		Data:     data,
		Env:      []string{guesttest.KeptFolder + "=/kept"},
		Programs: slices.Concat(guesttest.Programs, guesttest.VolumePrograms, guesttest.LockedPrograms, []string{"mkfs.vfat", "mkfs.btrfs", "fsck.fat", "btrfs", "dmsetup", "mdadm", "losetup"}, guesttest.CheckPrograms, []string{"resize2fs"}),
		Files:    []string{"/etc/mke2fs.conf"},
		Modules:  []string{"loop", "dm-mod", "dm-mirror", "dm-crypt", "aes_generic", "xts", "md-mod", "linear", "raid0", "raid1", "vfat", "nls_cp437", "nls_ascii", "xfs", "btrfs"},
		Tests: []string{
			"TestAVolumeInPiecesIsAnEngine",
			"TestAGroupOnALargerDiskGrows",
			"TestALargerDiskIsPutToUse",
			"TestDmsetupSeesOurTable",
			"TestMdFindsItsArraysAsItLeftThem",
			"TestAMirrorThatCouldNotBeWrittenIsTold",
			"TestWhatIsEncryptedIsOpenedWithItsKey",
			"TestAKeyIsInNobodysTable",
			"TestWhatADeadAgentLeftInDeviceMapperIsSwept",
			"TestAKilledAgentLeavesNothingMounted",
			"TestAnAgentMayBeKilledAtAnyMoment",
			"TestAServersVolumesAreMountedInsideEachOther",
			"TestFATIsShownAsItIsPromised",
			"TestFATAndBtrfsAreChecked",
			"TestClonesOfABtrfsAreShownOneAfterTheOther",
			"TestABtrfsThatIsRefusedIsForgotten",
			"TestSubvolumesOfABtrfsAreShown",
			"TestTheKernelsReasonIsTold",
			"TestAJournalIsReplayedOnceAndRecorded",
			"TestProbeSaysYesByUsingIt",
			"TestAProcessThatCrashesIsOneClearError",
		},
		Limit: 10 * time.Minute,
	}.Run(t)
}
