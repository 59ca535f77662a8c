package direct

import (
	"errors"
	"strings"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
)

func TestAJournalIsReplayedOnceAndRecorded(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	if log := openKernelLog(); log.file == nil {
		t.Skip("this machine hides its kernel's log")
	}
	for fstype, size := range map[string]int64{"ext4": 16 << 20, "xfs": 320 << 20} {
		t.Run(fstype, func(t *testing.T) {
			name := made(t, fstype, size)
			guesttest.PowerFailure(t, name, func(disk string) guest.Guest { return openDisks(t, disk) })
			for i, want := range []bool{true, false} {
				g := openDisks(t, name)
				before := g.Topology()
				for range 2 {
					must(t, g.Mount("disk0", "/"))
					must(t, g.UnmountAll())
				}
				if got := g.Topology().Filesystems[0].Replayed; got != want {
					t.Errorf("opened for the %d. time: replayed %v", i+1, got)
				}
				if before.Filesystems[0].Replayed {
					t.Error("a topology that was handed out has changed")
				}
				must(t, g.Close())
			}
		})
	}
}

func TestTheKernelsReasonIsTold(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	if log := openKernelLog(); log.file == nil {
		t.Skip("this machine hides its kernel's log")
	}
	name := made(t, "ext3", 16<<20)
	setBit(t, name, 1024+0x60+3, 0x80) // bit 31 of the incompatible features: no kernel knows it
	g := openDisks(t, name)
	if err := g.Mount("disk0", "/"); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "unsupported optional features (80000000)") {
		t.Errorf("Mount = %v, want the kernel's reason", err)
	}
	must(t, g.Close())
}

func TestLinesOfTheKernelsLogAreOfADevice(t *testing.T) {
	for record, want := range map[string]line{
		"6,1203,99,-;EXT4-fs (loop3): recovery complete\n":                              {"recovery complete", false},
		"5,1204,99,-;XFS (loop3): Starting recovery (logdev: internal)\n SUBSYSTEM=x\n": {"Starting recovery (logdev: internal)", false},
		"4,1204,99,c;XFS (loop3): SB validate failed\n":                                 {"SB validate failed", true},
		"6,1,9,-;BTRFS info (device loop3): start tree-log replay\n":                    {"start tree-log replay", false},
		"30,1,9,-;BTRFS info (device loop3): start tree-log replay\n":                   {"start tree-log replay", false},
		"3,1,9,-;BTRFS error (device loop3 state EA): broken\n":                         {"broken", true},
		"6,1,9,-;EXT4-fs (loop31): recovery complete\n":                                 {},
		"6,1,9,-;EXT4-fs (loop3) recovery complete\n":                                   {},
		"6,1,9,-;loop3: detected capacity change\n":                                     {},
		"x;EXT4-fs (loop3): recovery complete\n":                                        {},
		"":                                                                              {},
	} {
		if got, ok := aboutDevice(record, "loop3"); got != want || ok != (want != line{}) {
			t.Errorf("aboutDevice(%q) = %v, %v, want %v", record, got, ok, want)
		}
	}
	for text, want := range map[string]bool{"recovery complete": true, "Starting recovery (logdev: internal)": true,
		"start tree-log replay": true, "mounted filesystem with ordered data mode": false, "Ending clean mount": false} {
		if got := replayed([]line{{"x", true}, {text, false}}); got != want {
			t.Errorf("replayed(%q) = %v", text, got)
		}
	}
}
