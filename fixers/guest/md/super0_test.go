package md

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// old is a superblock of version 0.90 of member number of a RAID 1 of two, with a
// spare, changed before it is summed up.
func old(number uint32, by func(w []uint32)) disk {
	w := make([]uint32, words0)
	for i, word := range map[int]uint32{
		0: magic, 2: 90, 5: 0x01020304, 13: 0x05060708, 14: 0x090a0b0c, 15: 0x0d0e0f10, 6: 1_100_000_000,
		7: 1, 8: 8 << 10, 10: 2, 11: 3, 33: isClean, 39: 77, thisDisk: number,
	} {
		w[i] = word
	}
	for i, d := range [][2]uint32{{0, isActive | isSynced}, {1, isActive | isSynced}, {2, 0}} {
		w[firstDisk+i*wordsADisk+3], w[firstDisk+i*wordsADisk+4] = d[0], d[1]
	}
	by(w)
	w[38] = sum0(w)
	b := make([]byte, superSize)
	for i, word := range w {
		binary.LittleEndian.PutUint32(b[4*i:], word)
	}
	return disk{versions[0].at(size): b}
}

func TestTheOldVersionIsRead(t *testing.T) {
	m, err := Read(old(1, func([]uint32) {}), size)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Role{0, 1, Spare, Spare}, m.Roles[:4]); diff != "" {
		t.Error("Roles (-want +got):\n", diff)
	}
	if a := Assemble([]Device{{"disk0", m}}); len(a) != 1 || a[0].Label() != "3" {
		t.Errorf("%+v", a)
	}
	m.Roles = nil
	at := int64(size - 64<<10)
	want := Member{Version: "0.90", Array: "01020304:05060708:090a0b0c:0d0e0f10", At: at, Minor: 3, Number: 1,
		shape: shape{Level: 1, Disks: 2, Size: 8 << 20}, Events: 77, Created: 1_100_000_000, Length: at, InSync: true}
	if diff := cmp.Diff(want, m, cmp.AllowUnexported(Member{}, shape{})); diff != "" {
		t.Error("(-want +got):\n", diff)
	}
}

func TestWhatTheOldVersionSaysOfItsMembers(t *testing.T) {
	state := func(device, bits uint32) func([]uint32) {
		return func(w []uint32) { w[firstDisk+device*wordsADisk+4] = bits }
	}
	for name, c := range map[string]struct {
		by   func([]uint32)
		want Role
	}{
		"in step":      {func([]uint32) {}, 1},
		"faulty":       {state(1, isFaulty), Faulty},
		"rebuilt":      {state(1, 0), Spare},
		"not in step":  {state(1, isActive), Spare},
		"of no number": {func(w []uint32) { w[firstDisk+wordsADisk+3] = 1 << 31 }, Spare},
	} {
		if m, err := Read(old(0, c.by), size); err != nil || m.Roles[1] != c.want {
			t.Errorf("%s: %v, %v, want %v", name, m.Roles, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		by   func([]uint32)
		want func(Member) bool
	}{
		"not shut down":  {func(w []uint32) { w[33] = 0 }, func(m Member) bool { return !m.InSync }},
		"with a bitmap":  {func(w []uint32) { w[33] |= withMap }, func(m Member) bool { return m.Bitmap }},
		"slow":           {func(w []uint32) { w[thisDisk+4] = mostWrite }, func(m Member) bool { return m.Slow }},
		"being reshaped": {func(w []uint32) { w[2] = reshaped }, func(m Member) bool { return m.problem != "" }},
		"of many events": {func(w []uint32) { w[40] = 1 }, func(m Member) bool { return m.Events == 1<<32+77 }},
	} {
		if m, err := Read(old(0, c.by), size); err != nil || !c.want(m) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, by := range map[string]func([]uint32){
		"of another version": func(w []uint32) { w[2] = 92 },
		"of many devices":    func(w []uint32) { w[10] = disks0 + 1 },
		"of no number":       func(w []uint32) { w[thisDisk] = disks0 },
		"with a huge chunk":  func(w []uint32) { w[10], w[65] = 0, 1 },
	} {
		if m, err := Read(old(0, by), size); !errors.Is(err, ErrSuperblock) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	d := old(0, func([]uint32) {})
	d[versions[0].at(size)][600] ^= 1
	if m, err := Read(d, size); !errors.Is(err, ErrSuperblock) {
		t.Errorf("a wrong sum: %+v, %v", m, err)
	}
}
