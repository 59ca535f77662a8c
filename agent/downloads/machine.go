package downloads

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"hyper2kvm/agent/update"
)

// Machine is where the kernel tells of disks, and has them.
type Machine struct{ Sys, Dev, Proc string }

// ThisMachine is the one that this runs on.
func ThisMachine() Machine { return Machine{"/sys", "/dev", "/proc"} }

// home is the disk that the appliance runs from.
type home struct {
	layout
	hash  string // of the root
	nodes map[int]string
}

// home finds the appliance's own disk by the root that it was started with, and keeps of
// its partitions what starts that one.
func (m Machine) home() (h home, err error) {
	if h.hash, err = m.rootHash(); err != nil {
		return h, err
	}
	root, verity := update.Halves(h.hash)
	disk, nodes, err := m.disk(root)
	if err != nil {
		return h, fmt.Errorf("%w: the disk that this appliance was started from is not there: plug it in again, or name an image in a storage as base: %w", ErrBase, err)
	}
	h.nodes = nodes
	f, err := os.Open(disk)
	if err != nil {
		return h, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return h, err
	}
	if h.layout, err = readLayout(f, size); err != nil {
		return h, err
	}
	return h, h.keep(func(p *gpt.Partition) bool {
		id := strings.ToLower(p.GUID)
		return slices.Contains(bootTypes, p.Type) || id == root || id == verity
	})
}

// rootHash is that of the root which the kernel was told to start.
func (m Machine) rootHash() (string, error) {
	line, err := os.ReadFile(filepath.Join(m.Proc, "cmdline"))
	if err != nil {
		return "", err
	}
	for word := range strings.FieldsSeq(string(line)) {
		hash, is := strings.CutPrefix(word, "roothash=")
		if _, err := hex.DecodeString(hash); is && err == nil && len(hash) == 64 {
			return hash, nil
		}
	}
	return "", fmt.Errorf("%w: the agent does not run on an appliance, whose disk could be taken: name an image in a storage as base", ErrBase)
}

// disk is the one with a partition, and the devices of all its partitions by number.
func (m Machine) disk(partition string) (path string, nodes map[int]string, err error) {
	node, err := m.node(partition)
	if err != nil {
		return "", nil, err
	}
	there, err := filepath.EvalSymlinks(filepath.Join(m.Sys, "class/block", filepath.Base(node)))
	if err != nil {
		return "", nil, err
	}
	folder := filepath.Dir(there)
	list, err := filepath.Glob(filepath.Join(folder, "*", "partition"))
	if err != nil {
		return "", nil, err
	}
	nodes = map[int]string{}
	for _, p := range list {
		text, err := os.ReadFile(p)
		number, bad := strconv.Atoi(strings.TrimSpace(string(text)))
		if err := errors.Join(err, bad); err != nil {
			return "", nil, err
		}
		nodes[number] = filepath.Join(m.Dev, filepath.Base(filepath.Dir(p)))
	}
	return filepath.Join(m.Dev, filepath.Base(folder)), nodes, nil
}

// node is a partition's device, as udev has noted it.
func (m Machine) node(partition string) (string, error) {
	return filepath.EvalSymlinks(filepath.Join(m.Dev, "disk/by-partuuid", partition))
}

// partition opens one of the two that the appliance was started from, and writes never.
func (m Machine) partition(id string) (*os.File, error) {
	hash, err := m.rootHash()
	if err != nil {
		return nil, err
	}
	if root, verity := update.Halves(hash); id != root && id != verity {
		return nil, fmt.Errorf("the partition %s is not in use: %w", id, fs.ErrNotExist)
	}
	node, err := m.node(id)
	if err != nil {
		return nil, err
	}
	return os.Open(node)
}
