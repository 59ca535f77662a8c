package firstboot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SeedLabel is a seed volume's label, in capitals or not. A FAT label has 11 characters:
// there it is what is left of it.
const SeedLabel = "HYPER2KVM-SEED"

const fatLabelSize = 11

// volume is a file system of which the root folder can be read.
type volume interface {
	label() string
	open(name string, most int64) ([]byte, error)
}

// openers open the file systems that a seed volume can have.
var openers = []func(io.ReaderAt) (volume, error){openISO, openFAT}

// isSeed tells whether a file system is a seed volume.
func isSeed(v volume) bool {
	want := SeedLabel
	if _, fat := v.(*fatVolume); fat {
		want = want[:fatLabelSize]
	}
	return strings.EqualFold(v.label(), want)
}

// volumesTime is how long all block devices may take: one that is failing holds nobody up.
const volumesTime = 20 * time.Second

// notSeeds begin the names of devices that hold no medium of their own.
var notSeeds = []string{"loop", "ram", "zram", "nbd", "dm-", "md", "fd"}

// fromVolumes is what the seed volume says; nil if there is none.
func fromVolumes(root string) *source {
	return within(volumesTime, func() *source { return seedOf(root) })
}

// within is what is found in time. A device that hangs keeps its goroutine, and nobody
// waits for it.
func within(limit time.Duration, find func() *source) *source {
	found := make(chan *source, 1)
	go func() { found <- find() }()
	select {
	case s := <-found:
		return s
	case <-time.After(limit):
		s := newSource(fromSeed)
		s.wrong("was not looked for to the end: a disk does not answer within %v: take it out, or see dmesg", limit)
		return s
	}
}

func seedOf(root string) *source {
	var seeds []string
	var only *source
	for _, name := range devices(root) {
		if s := seedOn(root, name); s != nil {
			seeds, only = append(seeds, "/dev/"+name), s
		}
	}
	if len(seeds) > 1 {
		s := newSource(fromSeed)
		s.wrong("there are %d, %s, and none was read: leave one", len(seeds), strings.Join(seeds, " and "))
		return s
	}
	return only
}

// seedOn is what a device's seed says; nil if it holds none. A device that cannot be
// opened, such as a drive without a medium, holds none.
func seedOn(root, name string) *source {
	f, err := os.OpenFile(filepath.Join(root, "dev", strings.ReplaceAll(name, "!", "/")), os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	for _, open := range openers {
		v, err := open(f)
		if err == nil && isSeed(v) {
			return readSeed(fmt.Sprintf("%s on /dev/%s", fromSeed, name), v.open)
		}
	}
	return nil
}

// devices are the whole disks, partitions and optical drives, by name.
func devices(root string) (list []string) {
	folder := filepath.Join(root, "sys/block")
	disks, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	for _, d := range disks {
		if slices.ContainsFunc(notSeeds, func(prefix string) bool { return strings.HasPrefix(d.Name(), prefix) }) || isEmpty(filepath.Join(folder, d.Name())) {
			continue
		}
		list = append(list, d.Name())
		parts, err := filepath.Glob(filepath.Join(folder, d.Name(), "*", "partition"))
		if err != nil {
			continue
		}
		for _, p := range parts {
			list = append(list, filepath.Base(filepath.Dir(p)))
		}
	}
	return list
}

// isEmpty tells of a drive without a medium.
func isEmpty(device string) bool {
	text, err := os.ReadFile(filepath.Join(device, "size"))
	n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return errors.Join(err, bad) == nil && n == 0
}
