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
	"os"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
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
	g, err := Open(ctx, []string{f.Name()}, slog.New(slog.DiscardHandler))
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

// probeXFS asks for XFS without having one: a kernel that knows it refuses
// what is not a device, another does not know the word.
func probeXFS() error {
	fd, err := unix.Fsopen("xfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("the kernel has no XFS: %w", err)
	}
	return unix.Close(fd)
}
