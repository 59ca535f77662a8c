// Package source finds out what the operator wants to migrate: it turns a path
// into the hypervisor's record of a machine with its disks. It reads headers
// and text; the disks' data are opened by the pipeline.
package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
)

// ErrBadInput is a source that cannot be migrated as it was given. Its text
// says what to do.
var ErrBadInput = errors.New("cannot use this source")

// Default hardware of a machine of which no record exists.
const (
	guessedCPUs   = 2
	guessedMemory = 2 << 30
)

// Read reads the record of the machine at path: a VMX file, or one disk (VMDK,
// qcow2, raw, block device), for which the rest is guessed and said to be.
func Read(ctx context.Context, path string) (machine.Machine, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return machine.Machine{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return machine.Machine{}, fmt.Errorf("%w: %w", ErrBadInput, err)
	}
	if info.IsDir() {
		return machine.Machine{}, fmt.Errorf("%w: %s is a folder; give a VMX file or a disk in it", ErrBadInput, path)
	}
	m, err := read(path)
	if err != nil {
		return machine.Machine{}, fmt.Errorf("%w: %w", ErrBadInput, err)
	}
	if len(m.Disks) == 0 {
		return machine.Machine{}, fmt.Errorf("%w: %s names no disk", ErrBadInput, path)
	}
	for i := range m.Disks {
		if err := complete(ctx, &m.Disks[i]); err != nil {
			return machine.Machine{}, fmt.Errorf("%w: %w", ErrBadInput, err)
		}
		m.Disks[i].Serial = machine.Serial(m.Name, i)
	}
	return m, nil
}

func read(path string) (machine.Machine, error) {
	if strings.EqualFold(filepath.Ext(path), ".vmx") {
		return readVMX(path)
	}
	return guess(path), nil
}

// guess is the record of a machine of which only a disk is known.
func guess(path string) machine.Machine {
	return machine.Machine{
		Name:    strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
		Source:  "guess",
		Guesses: []string{"cpus", "memory", "nics"},
		CPUs:    guessedCPUs,
		Memory:  guessedMemory,
		Disks:   []machine.Disk{{Path: path}},
	}
}

// complete reads a disk's format and size from the disk itself.
func complete(ctx context.Context, d *machine.Disk) error {
	format, err := disk.Sniff(d.Path)
	if err != nil {
		return err
	}
	image, err := disk.Describe(ctx, d.Path, format)
	if err != nil {
		return err
	}
	if image.VirtualSize == 0 {
		return fmt.Errorf("%s: the disk is empty", d.Path)
	}
	d.Format, d.Size = format, image.VirtualSize
	return nil
}
