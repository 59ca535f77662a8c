package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/pipeline/disk/vhost"
)

// served is a target in a format that QEMU writes.
type served struct {
	*export
	disk  *disk.Served
	solid bool // its room was taken beforehand
	mute  bool // its format does not tell what it has no room for
}

func serve(ctx context.Context, path string, s disk.Shape, silence time.Duration) (*served, error) {
	d, err := disk.Serve(ctx, path, s)
	if err != nil {
		return nil, err
	}
	// A server that died took what it had not flushed with it.
	e, err := openExport(ctx, d.Export, patience{silence: silence})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &served{e, d, solid(s), s.Format == disk.VHDX}, nil
}

func (s *served) Write(ctx context.Context, p []byte, off int64) error {
	if did, err := s.quick(func(d *vhost.Device) error { return d.Write(ctx, p, off) }); did || err != nil {
		return err
	}
	return s.client.Write(ctx, p, off)
}

// Zero makes holes, unless the target's room was taken beforehand. What QEMU cannot tell
// whether it has room for is read first: zeroes that are written would take it.
//
// Source: QEMU block/vhdx.c, which has no bdrv_co_block_status.
func (s *served) Zero(ctx context.Context, off, n int64) error {
	if !s.mute {
		return s.zero(ctx, off, n)
	}
	p := make([]byte, min(n, leastChunk))
	for n > 0 {
		p = p[:min(n, int64(len(p)))]
		if err := s.Read(ctx, p, off); err != nil {
			return err
		}
		if !isZero(p) {
			if err := s.zero(ctx, off, int64(len(p))); err != nil {
				return err
			}
		}
		off, n = off+int64(len(p)), n-int64(len(p))
	}
	return nil
}

// mostZeroed is how much one request zeroes, in bytes: where a storage has to be written
// to for that, the server says nothing until it was.
const mostZeroed = 64 << 20

func (s *served) zero(ctx context.Context, off, n int64) error {
	var flags nbd.ZeroFlags
	if s.solid {
		flags = nbd.NoHole
	}
	for n > 0 {
		piece := min(n, mostZeroed)
		err := s.client.Zero(ctx, off, piece, flags)
		if errors.Is(err, syscall.ENOTSUP) {
			return writeZeroes(ctx, s, off, n)
		}
		if err != nil {
			return err
		}
		off, n = off+piece, n-piece
	}
	return nil
}

func (s *served) Flush(ctx context.Context) error {
	err := s.client.Flush(ctx)
	s.disk.Begin()
	return err
}

func (s *served) Sync(ctx context.Context) error {
	if err := s.Flush(ctx); err != nil {
		return err
	}
	return s.disk.Sync()
}

func (s *served) Close() error { return errors.Join(s.export.Close(), s.disk.Close()) }

// mostOnFAT is the largest disk that FAT, whose files are smaller than 4 GiB, holds in any
// format, in bytes: formats add to it.
const mostOnFAT = 4<<30 - 256<<20

// storable is ErrTarget for a file that FAT may be unable to hold. One that leaves out
// what is zero may stay small, but nobody knows that before its end.
func (t Target) storable() error {
	if t.Size <= mostOnFAT {
		return nil
	}
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(t.Path), &s); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrTarget, filepath.Dir(t.Path), err)
	}
	if s.Type == unix.MSDOS_SUPER_MAGIC {
		return fmt.Errorf("%w: %s is on FAT, which holds no file of 4 GiB or more, and the disk has %d bytes: choose a folder on exFAT or any other file system", ErrTarget, filepath.Dir(t.Path), t.Size)
	}
	return nil
}

// create makes an empty target.
func (t Target) create(ctx context.Context) error {
	if t.Device {
		return t.wipe()
	}
	return disk.Create(ctx, t.work(), t.Size, t.Shape)
}

// solid tells whether a target's room is taken before it is written.
func solid(s disk.Shape) bool { return s.Preallocation == "falloc" || s.Preallocation == "full" }

// open opens a target for writing; silence is what its server may keep, if it has one.
func (t Target) open(ctx context.Context, path string, silence time.Duration) (Writer, error) {
	if t.Device {
		return t.openDevice()
	}
	if t.Format != disk.Raw {
		return serve(ctx, path, t.Shape, silence)
	}
	f, err := openFile(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	f.solid = solid(t.Shape)
	return f, nil
}
