package disks

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestADiskIsKnownByItsNode(t *testing.T) {
	m := played(t, "")
	put(t, filepath.Join(m.Sys, "dev/block/8:0"), "", "../../block/sda")
	got, err := m.numbered("/dev/sda", "8:0")
	if want := (Attached{Path: "/dev/sda", Size: 60062500 * sectorSize, Bus: "usb", Model: "Ultra", Serial: "4C530001230115117282", Removable: true}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for dev, c := range map[string]struct {
		err   error
		words string
	}{"8:1": {ErrInput, "is a partition: give the whole disk, " + m.Dev + "/sda"}, "8:77": {ErrUnknown, "does not show what /dev/x is"}} {
		if _, err := m.numbered("/dev/x", dev); !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s is %v", dev, err)
		}
	}
	if _, err := m.At(filepath.Join(m.Proc, "self/mountinfo")); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "no block device") {
		t.Errorf("a file is %v", err)
	}
}
