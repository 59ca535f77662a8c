package boot

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Partition is one of a disk, as the kernel tells of it.
type Partition struct {
	Name  string // sda2
	Disk  string // sda
	Label string // in the partition table
	UUID  string // in the partition table, in lower case
	Start int64  // in bytes
	Size  int64
}

// Device is the partition's file.
func (p Partition) Device() string { return "/dev/" + p.Name }

// kernel is where the kernel tells of disks, and has them.
type kernel struct{ blocks, dev string }

var here = kernel{"/sys/class/block", "/dev"}

// partitions are those of all disks.
func (k kernel) partitions() (list []Partition) {
	entries, err := os.ReadDir(k.blocks)
	if err != nil {
		return nil
	}
	tables := map[string][]*gpt.Partition{}
	for _, e := range entries {
		path := filepath.Join(k.blocks, e.Name())
		number, err := strconv.Atoi(attribute(path, "partition"))
		if err != nil {
			continue // a whole disk
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue // it went away
		}
		p := Partition{Name: e.Name(), Disk: filepath.Base(filepath.Dir(real)), Start: sectors(path, "start"), Size: sectors(path, "size")}
		if _, read := tables[p.Disk]; !read {
			tables[p.Disk] = k.table(p.Disk)
		}
		list = append(list, p.named(tables[p.Disk], number))
	}
	return list
}

// table is a disk's. The kernel tells neither of labels nor of UUIDs that were written
// while it runs.
func (k kernel) table(disk string) []*gpt.Partition {
	f, err := file.OpenFromPathWithExclusive(filepath.Join(k.dev, disk), true, false)
	if err != nil {
		return nil
	}
	defer f.Close()
	size, err := strconv.Atoi(attribute(k.blocks, disk, "queue/logical_block_size"))
	if err != nil {
		size = 512
	}
	t, err := gpt.Read(f, size, size)
	if err != nil {
		return nil // it has another kind of table, or a damaged one
	}
	return t.Partitions
}

func (p Partition) named(table []*gpt.Partition, number int) Partition {
	for _, entry := range table {
		if entry.Index == number {
			p.Label, p.UUID = entry.Name, strings.ToLower(entry.GUID)
		}
	}
	return p
}

// sectors reads a number of 512 bytes each.
func sectors(path, name string) int64 {
	n, err := strconv.ParseInt(attribute(path, name), 10, 64)
	if err != nil {
		return 0
	}
	return n * 512
}

func attribute(path ...string) string {
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// Disk is a whole one.
type Disk struct {
	Name     string // sda
	Serial   string // empty where it has none
	Model    string
	Size     int64
	ReadOnly bool
}

func (k kernel) disk(name string) Disk {
	path := filepath.Join(k.blocks, name)
	d := Disk{Name: name, Size: sectors(path, "size"), ReadOnly: attribute(path, "ro") == "1", Model: attribute(path, "device/model")}
	for _, at := range []string{"serial", "device/serial", "wwid", "device/wwid"} {
		if d.Serial = attribute(path, at); d.Serial != "" {
			break
		}
	}
	return d
}

func (d Disk) String() string {
	words := []string{d.Name}
	for _, s := range []string{d.Model, d.Serial} {
		if s != "" {
			words = append(words, s)
		}
	}
	return strings.Join(words, " ")
}

// known tells whether a word names the disk. Blanks of a serial number are underscores
// there, as in the names that udev gives.
func (d Disk) known(word string) bool {
	return word == d.Name || word == "/dev/"+d.Name || word == d.Serial || word == strings.Join(strings.Fields(d.Serial), "_")
}

// diskNames are the disks that partitions are on, without repetition.
func diskNames(list []Partition) (names []string) {
	for _, p := range list {
		if !slices.Contains(names, p.Disk) {
			names = append(names, p.Disk)
		}
	}
	return names
}
