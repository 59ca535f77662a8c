package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/api/model"
)

func TestAttachedDisksAreAskedFor(t *testing.T) {
	f := flags{to: "kvm", devices: []string{"1=disk:serial-b", "0=disk:wwn-0x1"}}
	s, err := f.spec(model.ModeMigrate, "disk:usb-Stick_1-0:0")
	if err != nil || s.Source.Disk != "usb-Stick_1-0:0" || sourceText(s.Source) != "disk:usb-Stick_1-0:0" {
		t.Errorf("one disk is asked for as %+v, %v", s.Source, err)
	}
	if diff := cmp.Diff([]string{"wwn-0x1", "serial-b"}, s.Target.Disks); diff != "" {
		t.Error(diff)
	}
	s, err = f.spec(model.ModeMigrate, "disk:wwn-0x2,wwn-0x3")
	if err != nil || len(s.Source.Disks) != 2 || sourceText(s.Source) != "disk:wwn-0x2,wwn-0x3" {
		t.Errorf("two disks are asked for as %+v, %v", s.Source, err)
	}
	for _, devices := range [][]string{{"0=/dev/sdb"}, {"1=disk:a"}, {"0=disk:a", "0=disk:b"}, {"disk:a"}, {"0=disk:"}} {
		f.devices = devices
		if _, err := f.spec(model.ModeMigrate, "disk:a"); !errors.Is(err, errUsage) || !strings.Contains(err.Error(), "0=disk:ID") {
			t.Errorf("--disk-to %q: %v", devices, err)
		}
	}
}

func TestADiskIsShownWithAllThatIsKnownOfIt(t *testing.T) {
	d := model.Disk{ID: "wwn-0x1", Present: true, Size: 1 << 30, Holds: "Linux, 1 partition", Note: "one thing", ReadOnly: true, Use: model.DiskUse{As: model.DiskUseAsStorage, Name: "stick"},
		Parts: []model.DiskPart{{Number: 1, Size: 1 << 20, FileSystem: "ext4", Label: "data"}}}
	var lines []string
	for _, row := range detailed(d) {
		lines = append(lines, strings.Join(row, ": "))
	}
	want := "id: wwn-0x1, is: storage stick, holds: Linux, 1 partition, size: 1 GiB, written: never: it is read-only, partition 1: 1 MiB ext4 data, note: one thing"
	if got := strings.Join(lines, ", "); got != want {
		t.Errorf("it is shown as\n%s\nwant\n%s", got, want)
	}
	d.Present = false
	if got := usedAs(d); got != "storage stick, not attached" {
		t.Errorf("gone, it is %q", got)
	}
}
