package guesttest

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// kept are disks in memory, their holes left out: each test of a process gets files
// of its own of what takes long to make, above all LVM.
type kept struct {
	sync.Mutex
	name  string // in a folder of disks that another process made
	make  func(testing.TB) []string
	disks []sparseData
}

var allKept = []*kept{&keptDisks, &keptVolumes, &keptServer, &keptArrays, &keptLocked, &keptGroups}

// sparseData is a disk's content by blocks, without those that are all zeros.
type sparseData struct {
	Name   string
	Size   int64
	Blocks map[int64][]byte
}

// KeptFolder names the environment variable of a folder with the files of Kept.
const KeptFolder = "GUESTTEST_KEPT"

// Kept are files for a process on another machine, by name: with them in its
// KeptFolder, it need not make the disks of Disks, Volumes and Server.
func Kept(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, k := range allKept {
		var data bytes.Buffer
		if err := gob.NewEncoder(&data).Encode(k.get(t)); err != nil {
			t.Fatal(err)
		}
		files[k.name] = data.Bytes()
	}
	return files
}

// get are the disks, read or made by the first that asks.
func (k *kept) get(t testing.TB) []sparseData {
	t.Helper()
	k.Lock()
	defer k.Unlock()
	switch dir := os.Getenv(KeptFolder); {
	case k.disks != nil:
	case dir != "":
		data, err := os.ReadFile(filepath.Join(dir, k.name))
		if err == nil {
			err = gob.NewDecoder(bytes.NewReader(data)).Decode(&k.disks)
		}
		if err != nil {
			t.Fatal(err)
		}
	default:
		var disks []sparseData
		for _, name := range k.make(t) {
			disks = append(disks, readSparse(t, name))
		}
		k.disks = disks
	}
	return k.disks
}

// files are the disks in a folder of the test.
func (k *kept) files(t testing.TB) (names []string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range k.get(t) {
		name := filepath.Join(dir, d.Name)
		d.write(t, name)
		names = append(names, name)
	}
	return names
}

func (d sparseData) write(t testing.TB, name string) {
	t.Helper()
	sparse(t, name, d.Size)
	for at, block := range d.Blocks {
		writeAt(t, name, at, block)
	}
}

func readSparse(t testing.TB, name string) sparseData {
	t.Helper()
	d := sparseData{Name: filepath.Base(name), Blocks: map[int64][]byte{}}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zero := string(make([]byte, spliced))
	for {
		block := make([]byte, spliced)
		n, err := io.ReadFull(f, block)
		if n > 0 && string(block[:n]) != zero[:n] {
			d.Blocks[d.Size] = block[:n]
		}
		d.Size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return d
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Copy copies a disk, holes left out.
func Copy(t testing.TB, from, to string) {
	t.Helper()
	readSparse(t, from).write(t, to)
}
