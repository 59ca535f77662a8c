package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What was inflated once is there for who reads it again, in whatever pieces.
func TestAGrainIsInflatedOnce(t *testing.T) {
	defer func(n int64) { ampleRoom = n }(ampleRoom)
	raw := pattern(2048)
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	writeFile(t, path, string(stream(t, 2048, grainsOf(raw, 64<<10))))
	for name, dir := range map[string]string{"kept": t.TempDir(), "little room": t.TempDir(), "no such folder": filepath.Join(t.TempDir(), "none")} {
		data := must(os.ReadFile(path))(t)
		d := must(readChain(t, path).Read())(t)
		ampleRoom = 0
		if name == "little room" {
			ampleRoom = 1 << 62
		}
		d.Keep(dir)
		got := make([]byte, len(raw)-64<<10)
		must(0, d.Read(got[:96<<10], 4096))(t) // all but the beginning of one grain, and the beginning of the next
		spoilt := bytes.Clone(data)
		clear(spoilt[9*sectorSize:][:sectorSize]) // of the first grain
		writeFile(t, path, string(spoilt))
		once := d.Once()
		for _, d := range []*Content{once, d} {
			clear(got)
			err := d.Read(got[:70<<10], 100)
			if name == "kept" && (err != nil || !bytes.Equal(got[:70<<10], raw[100:][:70<<10])) {
				t.Errorf("what was kept is another: %v", err)
			}
			if name != "kept" && err == nil {
				t.Error("the grain is still there")
			}
		}
		must(0, once.Read(got, 64<<10))(t)
		if d.kept != nil && len(d.kept.at) != 1 {
			t.Errorf("%d grains are kept, want the one that was not read once", len(d.kept.at))
		}
		must(0, once.Close())(t)
		if left := must(os.ReadDir(filepath.Dir(dir)))(t); name == "kept" && len(must(os.ReadDir(dir))(t)) > 0 {
			t.Errorf("files are left: %v", left)
		}
		must(0, d.Close())(t)
		writeFile(t, path, string(data))
	}
}

func TestNoMoreIsKeptThanThereIsRoomFor(t *testing.T) {
	k := kept{file: must(os.Create(filepath.Join(t.TempDir(), "kept")))(t), at: map[place]slot{}, end: mostKept - 2*sectorSize}
	defer k.file.Close()
	grain := bytes.Repeat([]byte{1}, sectorSize)
	for i := range int64(5) {
		k.add(place{nil, i}, grain)
		k.add(place{nil, i}, bytes.Repeat([]byte{2}, sectorSize))
	}
	p := make([]byte, 100)
	for i := range int64(5) {
		if got, want := k.read(place{nil, i}, p, 7), i < 2; got != want || got && !bytes.Equal(p, grain[:100]) {
			t.Errorf("grain %d is kept: %v, want %v", i, got, want)
		}
	}
	if k.read(place{nil, 0}, p, sectorSize-99) {
		t.Error("more is read of a grain than it has")
	}
}
