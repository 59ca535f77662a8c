package update

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/proc"
)

// Types of partitions.
//
// Source: UAPI group, Discoverable Partitions Specification.
const (
	typeESP    = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	TypeRoot   = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	TypeVerity = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"
)

// Labels of slots. One that holds no version that could start is empty.
const (
	labelRoot   = "hyper2kvm-root"
	labelVerity = "hyper2kvm-root-verity"
	labelEmpty  = "_empty"
)

// partition is one of the disk that the appliance runs from.
type partition struct {
	Node  string `json:"node"`
	Size  int64  `json:"size"` // in sectors of the disk
	Type  string `json:"type"`
	UUID  string `json:"uuid"`
	Label string `json:"name"`

	number int
	bytes  int64
}

// slot is where a version's root is.
type slot struct{ root, verity partition }

// home is the disk that the appliance runs from.
type home struct {
	disk    string // its device
	esp     partition
	running slot
	spare   slot
}

// home finds it: it is where the root is that is mounted. What keeps this appliance from
// being updated is ErrCannot.
func (m *Machine) home(ctx context.Context) (h home, err error) {
	words, err := m.words()
	if err != nil {
		return h, err
	}
	if slices.Contains(words, "hyper2kvm.toram") {
		return h, fmt.Errorf("%w: it runs in memory, so its stick may be another one by now: start it from its disk", ErrCannot)
	}
	disk, parts, err := m.beneath()
	if err != nil {
		return h, err
	}
	if m.attr("class/block", disk, "ro") == "1" {
		return h, fmt.Errorf("%w: its disk %s is write-protected: take that off, and start it again", ErrCannot, disk)
	}
	h.disk = filepath.Join(m.Dev, disk)
	table, err := readTable(ctx, h.disk)
	if err != nil {
		return h, err
	}
	return h, h.sort(table, parts)
}

// beneath are the disk and the numbers of the partitions that the root is on.
func (m *Machine) beneath() (disk string, numbers []int, err error) {
	entries, err := os.ReadDir(filepath.Join(m.Sys, "dev/block", m.Root, "slaves"))
	if err != nil || len(entries) != 2 {
		return "", nil, fmt.Errorf("%w: it does not run from an image of the appliance's", ErrCannot)
	}
	for _, e := range entries {
		real, err := filepath.EvalSymlinks(filepath.Join(m.Sys, "class/block", e.Name()))
		if err != nil {
			return "", nil, err
		}
		n, err := strconv.Atoi(m.attr("class/block", e.Name(), "partition"))
		if err != nil {
			return "", nil, fmt.Errorf("%w: it does not run from partitions of a disk", ErrCannot)
		}
		disk, numbers = filepath.Base(filepath.Dir(real)), append(numbers, n)
	}
	return disk, numbers, nil
}

// sort tells the slots apart: the one that runs is on the partitions with the numbers.
func (h *home) sort(table []partition, numbers []int) error {
	var roots, verities []partition
	for _, p := range table {
		switch {
		case strings.EqualFold(p.Type, typeESP) && h.esp.Node == "":
			h.esp = p
		case strings.EqualFold(p.Type, TypeRoot):
			roots = append(roots, p)
		case strings.EqualFold(p.Type, TypeVerity):
			verities = append(verities, p)
		}
	}
	if h.esp.Node == "" || len(roots) == 0 || len(roots) != len(verities) {
		return fmt.Errorf("%w: the partitions of its disk %s are not those of its image", ErrCannot, h.disk)
	}
	for n := range roots {
		s := slot{roots[n], verities[n]}
		switch {
		case slices.Contains(numbers, s.root.number) && slices.Contains(numbers, s.verity.number):
			h.running = s
		case !slices.Contains(numbers, s.root.number) && !slices.Contains(numbers, s.verity.number):
			h.spare = s
		}
	}
	switch {
	case h.running.root.Node == "":
		return fmt.Errorf("%w: the partitions of its disk %s are not those that it runs from", ErrCannot, h.disk)
	case h.spare.root.Node == "":
		return fmt.Errorf("%w: its disk %s has no room for a second version: write the image to a disk of 4 GiB or more", ErrCannot, h.disk)
	}
	return nil
}

// readTable reads a disk's partition table.
func readTable(ctx context.Context, disk string) ([]partition, error) {
	out, err := proc.Run(ctx, "sfdisk", "--json", disk)
	if err != nil {
		return nil, err
	}
	var read struct {
		Table struct {
			Label      string      `json:"label"`
			SectorSize int64       `json:"sectorsize"`
			Partitions []partition `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(out, &read); err != nil || read.Table.Label != "gpt" {
		return nil, fmt.Errorf("the partition table of %s is no GPT: %w", disk, err)
	}
	for n := range read.Table.Partitions {
		p := &read.Table.Partitions[n]
		digits := p.Node[len(strings.TrimRight(p.Node, "0123456789")):]
		if p.number, err = strconv.Atoi(digits); err != nil {
			return nil, fmt.Errorf("sfdisk tells of a partition %q", p.Node)
		}
		p.bytes = p.Size * max(read.Table.SectorSize, 512)
	}
	return read.Table.Partitions, nil
}

// name gives a slot's partitions labels and UUIDs. Nobody else is told: those that are
// mounted stay as they are, and who starts the machine next reads the table anew.
func (m *Machine) name(ctx context.Context, h home, s slot) error {
	for _, p := range []partition{s.root, s.verity} {
		for _, args := range [][]string{{"--part-uuid", h.disk, strconv.Itoa(p.number), p.UUID}, {"--part-label", h.disk, strconv.Itoa(p.number), p.Label}} {
			if _, err := proc.Run(ctx, "sfdisk", append([]string{"--quiet", "--no-reread", "--no-tell-kernel"}, args...)...); err != nil {
				return fmt.Errorf("name the partition %s: %w", p.Node, err)
			}
			if err := m.did(args[0] + " of " + p.Node); err != nil {
				return err
			}
		}
	}
	return nil
}
