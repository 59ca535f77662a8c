// Package source finds out what the operator wants to migrate: it turns a path
// into the hypervisor's record of a machine with its disks. It reads headers
// and text; the disks' data are opened by the pipeline.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

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
// qcow2, raw, block device), for which the rest is guessed and said to be. Other
// files are taken from the folder of the file that names them, and from those
// that are allowed.
func Read(ctx context.Context, path string, allowed []string) (machine.Machine, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return machine.Machine{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return machine.Machine{}, fmt.Errorf("%w: %w", ErrBadInput, absent(err, path))
	}
	if info.IsDir() {
		return machine.Machine{}, fmt.Errorf("%w: %s is a folder; give a VMX file or a disk in it", ErrBadInput, path)
	}
	m, err := read(path, allowed)
	if err != nil {
		return machine.Machine{}, fmt.Errorf("%w: %w", ErrBadInput, err)
	}
	if len(m.Disks) == 0 {
		return machine.Machine{}, fmt.Errorf("%w: %s names no disk; give the guest's disk itself, or a VMX file with its disks", ErrBadInput, path)
	}
	for i := range m.Disks {
		if err := complete(ctx, &m.Disks[i], Folders(path, allowed)); err != nil {
			return machine.Machine{}, fmt.Errorf("%w: %w", ErrBadInput, err)
		}
		if m.Source == path && m.Disks[i].Format != disk.VMDK { // a stranger's VMX that names /dev/sda means this host's
			return machine.Machine{}, fmt.Errorf("%w: %s names %s, which is not a VMDK", ErrBadInput, path, m.Disks[i].Path)
		}
		m.Disks[i].Serial = machine.Serial(m.Name, i)
	}
	return m, nil
}

func read(path string, allowed []string) (machine.Machine, error) {
	if isVMX(path) {
		return readVMX(path, allowed)
	}
	return guess(path), nil
}

func isVMX(path string) bool { return strings.EqualFold(filepath.Ext(path), ".vmx") }

// Folders are those in which the disks of the machine at path may have files,
// besides their own: those that are allowed, and a VMX file's own, which the
// operator gave with it.
func Folders(path string, allowed []string) []string {
	if !isVMX(path) {
		return allowed
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return append([]string{filepath.Dir(path)}, allowed...)
}

// guess is the record of a machine of which only a disk is known.
func guess(path string) machine.Machine {
	return machine.Machine{
		Name:    strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
		Source:  machine.Guess,
		Guesses: []string{"cpus", "memory", "nics"},
		CPUs:    guessedCPUs,
		Memory:  guessedMemory,
		Disks:   []machine.Disk{{Path: path}},
	}
}

// complete reads a disk's format, size and what it stands on from the disk itself.
func complete(ctx context.Context, d *machine.Disk, allowed []string) error {
	if !utf8.ValidString(d.Path) {
		return fmt.Errorf("%q: the name is not UTF-8, so the programs that open the disk would look for another: rename it", d.Path)
	}
	format, err := disk.Sniff(d.Path)
	if err != nil {
		return absent(err, d.Path)
	}
	c, err := disk.ReadChain(ctx, d.Path, format, allowed)
	if err != nil {
		return absent(err, d.Path)
	}
	if c.Size == 0 {
		return fmt.Errorf("%s: the disk has no bytes; give the guest's disk", d.Path)
	}
	d.Format, d.Size, d.Kind, d.Parents, d.Dirty = format, c.Size, c.Kind(), c.Parents(), len(c.Dirty()) > 0
	return nil
}

// absent says of a file that is not there what to do about it.
func absent(err error, path string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist; copy it there, or give the file that it is now", path)
	}
	return err
}
