package direct

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// probeImage is an empty ext4 file system:
// mke2fs -t ext4 -O ^has_journal -b 1024 -N 16 probe.ext4 128k; gzip -9n probe.ext4
//
//go:embed probe.ext4.gz
var probeImage []byte

// Probe proves by use that this engine works here: it mounts a small ext4,
// writes to it, reads it again, and asks for XFS. Its error is the reason why
// the engine cannot be used.
func Probe(ctx context.Context) (err error) {
	f, err := os.CreateTemp("", "probe-*.ext4")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	unzipped, err := gzip.NewReader(bytes.NewReader(probeImage))
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, unzipped); err != nil {
		return err
	}
	g, err := Open(ctx, []string{f.Name()}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(probe(g), g.Close(), probeXFS())
}

func probe(g guest.Guest) error {
	if err := g.Mount("disk0", "/"); err != nil {
		return err
	}
	const content = "written by the probe"
	if err := g.WriteFile("/../probe", 0, []byte(content)); err != nil {
		return err
	}
	data, err := g.ReadFile("/probe", 100)
	if err != nil {
		return err
	}
	if string(data) != content {
		return fmt.Errorf("a file written to ext4 reads as %q", data)
	}
	return nil
}

// probeXFS asks for XFS, without which many guests cannot be shown.
func probeXFS() error {
	if err := known("xfs"); err != nil {
		return fmt.Errorf("the kernel has no XFS: %w", err)
	}
	return nil
}

// known asks the kernel for a file system without having one: a kernel that knows it
// loads its module, another does not know the word.
func known(fstype string) error {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Lacks names what this kernel lacks of all that the engine can use, with the
// reason. Guests that need it are unsupported.
func Lacks() (names []string) {
	for _, fstype := range slices.Sorted(maps.Keys(options)) {
		err := known(fstype)
		if fstype == "ntfs" {
			_, missing := proc.Look(guest.NTFSProgram)
			err = errors.Join(known("fuseblk"), missing)
		}
		if err != nil {
			names = append(names, fmt.Sprintf("%s (%v)", fstype, err))
		}
	}
	if err := NoMapper(); err != nil {
		names = append(names, fmt.Sprintf("device-mapper (%v)", err))
	}
	return names
}

// NoMapper is why volumes in several pieces cannot be shown here; nil where they can.
func NoMapper() error {
	control, err := openMapper()
	if err != nil {
		return err
	}
	return control.Close()
}
