package guesttest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// kept are disks in memory, their holes left out: each test of a process gets files
// of its own of what takes LVM long to make.
type kept struct {
	sync.Mutex
	disks []sparseData
}

// sparseData is a disk's content by blocks, without those that are all zeros.
type sparseData struct {
	name   string
	size   int64
	blocks map[int64][]byte
}

// files are the disks in a folder of the test, made by the first that asks.
func (k *kept) files(t testing.TB, make func(testing.TB) []string) (names []string) {
	t.Helper()
	k.Lock()
	defer k.Unlock()
	if k.disks == nil {
		var disks []sparseData
		for _, name := range make(t) {
			disks = append(disks, readSparse(t, name))
		}
		k.disks = disks
	}
	dir := t.TempDir()
	for _, d := range k.disks {
		name := filepath.Join(dir, d.name)
		sparse(t, name, d.size)
		for at, block := range d.blocks {
			writeAt(t, name, at, block)
		}
		names = append(names, name)
	}
	return names
}

func readSparse(t testing.TB, name string) sparseData {
	t.Helper()
	d := sparseData{name: filepath.Base(name), blocks: map[int64][]byte{}}
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
			d.blocks[d.size] = block[:n]
		}
		d.size += int64(n)
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
	d := readSparse(t, from)
	sparse(t, to, d.size)
	for at, block := range d.blocks {
		writeAt(t, to, at, block)
	}
}
