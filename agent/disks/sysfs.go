package disks

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// block is a whole disk, as the kernel tells of it.
type block struct {
	name      string // by which the kernel knows it now
	dev       string // major:minor
	seq       uint64 // another one each time that a disk is attached
	size      int64  // bytes
	bus       string
	model     string
	serial    string
	ids       []string // what it says of itself, the best first
	removable bool
	readOnly  bool
}

// notDisks are kinds of block devices that are no disks: made of memory, files or other
// devices, or of media that guests do not run from.
//
// Source: Linux Documentation/admin-guide/devices.txt.
var notDisks = regexp.MustCompile(`^(loop|ram|zram|sr|scd|fd|nbd|dm-|md|mtdblock|rbd|drbd|bcache|pmem)\d|^mmcblk\d+(boot\d|rpmb)`)

// sectorSize is the unit of sysfs, whatever a disk has.
const sectorSize = 512

// blocks are the machine's disks that have a medium, by their names.
func (m Machine) blocks() (list []block, err error) {
	entries, err := os.ReadDir(filepath.Join(m.Sys, "block"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if notDisks.MatchString(e.Name()) && (m.Extra == nil || !m.Extra(e.Name())) {
			continue
		}
		if b := m.block(e.Name()); b.size > 0 && m.attr(b.name, "hidden") != "1" {
			list = append(list, b)
		}
	}
	return list, nil
}

// life is the ID of this life of the kernel.
func (m Machine) life() string {
	return strings.TrimSpace(string(read(filepath.Join(m.Proc, "sys/kernel/random/boot_id"))))
}

// block reads what the kernel tells of one. What it does not tell is empty.
func (m Machine) block(name string) block {
	sectors, _ := strconv.ParseInt(m.attr(name, "size"), 10, 64)
	seq, _ := strconv.ParseUint(m.attr(name, "diskseq"), 10, 64)
	b := block{name: name, dev: m.attr(name, "dev"), seq: seq, size: sectors * sectorSize,
		removable: m.attr(name, "removable") == "1", readOnly: m.attr(name, "ro") == "1"}
	m.identify(&b)
	return b
}

// longest is how much is read of a file of sysfs, in bytes.
const longest = 4096

// attr is the text of a disk's file in sysfs; "" if there is none.
func (m Machine) attr(name string, path ...string) string {
	return strings.TrimSpace(string(m.raw(name, path...)))
}

func (m Machine) raw(name string, path ...string) []byte {
	return read(filepath.Join(m.Sys, "block", name, filepath.Join(path...)))
}

// read is the start of a small file; nothing if it cannot be read.
func read(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, longest))
	if err != nil {
		return nil
	}
	return text
}

// parts are the numbers of the partitions that the kernel shows of a disk, with their
// names.
func (m Machine) parts(name string) map[int]string {
	found := map[int]string{}
	files, _ := filepath.Glob(filepath.Join(m.Sys, "block", name, name+"*", "partition")) // whose only error is of the pattern
	for _, file := range files {
		if n, err := strconv.Atoi(strings.TrimSpace(string(read(file)))); err == nil {
			found[n] = filepath.Base(filepath.Dir(file))
		}
	}
	return found
}

// holders are the devices that lie on a disk or its partitions: dm, md.
func (m Machine) holders(name string) (list []string) {
	for _, folder := range append([]string{""}, values(m.parts(name))...) {
		entries, err := os.ReadDir(filepath.Join(m.Sys, "block", name, folder, "holders"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
	}
	slices.Sort(list)
	return list
}

func values(parts map[int]string) (list []string) {
	for _, name := range parts {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
