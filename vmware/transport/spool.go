package transport

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
)

// spool is a file in which a disk is kept that can only be read from start to end. It
// has its name only when it is whole and on the storage.
type spool struct {
	path  string
	size  int64
	takes int64 // bytes, with the disks that come after it
	// known tells that the name stands for these very bytes: those of a snapshot, which
	// nothing changes. A VM that was off may have run in the meantime.
	known bool
}

// part is how a file ends that is not whole.
const part = ".part"

func newSpool(d Disk) *spool {
	id := fmt.Sprintf("%q %q %d %q %q %d", d.VM, d.Snapshot, d.Key, d.UUID, d.Files, d.Size)
	name := fmt.Sprintf("nfc-%x.raw", sha256.Sum256([]byte(id)))
	return &spool{filepath.Join(d.Folder, name), d.Size, cmp.Or(d.Holds, d.Size) + d.Next, d.Snapshot != ""}
}

// reopen opens what is whole from before; nil if there is nothing.
func (s *spool) reopen() (disk.Remote, error) {
	info, err := os.Lstat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if s.known && info.Mode().IsRegular() && info.Size() == s.size {
		return s.open()
	}
	return nil, os.Remove(s.path)
}

// fill writes the file anew. from puts what is not zeroes, in any order, each place once.
func (s *spool) fill(from func(put func(p []byte, off int64) error) error) (err error) {
	f, err := s.claim()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
		err = errors.Join(err, f.Close())
	}()
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := s.room(); err != nil {
		return err
	}
	if err := f.Truncate(s.size); err != nil {
		return s.full(err)
	}
	if err := from(func(p []byte, off int64) error { return s.full(put(f, p, off)) }); err != nil {
		return err
	}
	return s.full(s.finish(f))
}

// room refuses what may not fit, before hours were spent on it.
func (s *spool) room() error {
	dir := filepath.Dir(s.path)
	var there unix.Statfs_t
	if err := unix.Statfs(dir, &there); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	free := int64(there.Bavail) * there.Bsize
	if free >= s.takes {
		return nil
	}
	return fmt.Errorf("%w: the disks that are still to be fetched take up to %d bytes in %s meanwhile, and %d are free there: make room, choose a folder on other storage, or use a transport that needs none",
		ErrUnusable, s.takes, dir, free)
}

// claim opens the file that is not whole, for one writer alone: what somebody left who
// was killed is begun again.
func (s *spool) claim() (*os.File, error) {
	f, err := os.OpenFile(s.path+part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, s.full(err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = named(f) // another one may just have finished it
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: another one reads this disk to %s: %w", ErrUnusable, s.path, err), f.Close())
	}
	return f, nil
}

// named refuses a file that has another name by now.
func named(f *os.File) error {
	open, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(f.Name())
	if err == nil && !os.SameFile(open, there) {
		err = fs.ErrExist
	}
	return err
}

// put writes what is not zeroes.
func put(f *os.File, p []byte, off int64) error {
	if bytes.Count(p, []byte{0}) == len(p) {
		return nil
	}
	_, err := f.WriteAt(p, off)
	return err
}

// finish gives a whole file its name.
func (s *spool) finish(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// full says what to do when there is no room.
func (s *spool) full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: the storage of %s is full: the disk needs up to %d bytes there; make room, or use a transport that needs none", ErrUnusable, filepath.Dir(s.path), s.size)
	}
	return err
}

// open opens the whole file to read it. One that will not be used again loses its name.
func (s *spool) open() (disk.Remote, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	if !s.known {
		if err := os.Remove(s.path); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return &closing{Remote: spooled{f, s.size}}, nil
}

// spooled is a whole disk in a file.
type spooled struct {
	file *os.File
	size int64
}

// Size implements disk.Remote.
func (s spooled) Size() int64 { return s.size }

// Read implements disk.Remote.
func (s spooled) Read(ctx context.Context, p []byte, off int64) error {
	if err := inside(ctx, s.size, off, int64(len(p))); err != nil || len(p) == 0 {
		return err
	}
	_, err := s.file.ReadAt(p, off)
	return err
}

// Extents implements disk.Remote.
func (s spooled) Extents(ctx context.Context, off, n int64) ([]disk.Allocation, error) {
	if err := inside(ctx, s.size, off, n); err != nil {
		return nil, err
	}
	length, hole, err := disk.Hole(s.file, off, n)
	return []disk.Allocation{{Offset: off, Length: length, Zero: hole}}, err
}

// Close implements disk.Remote.
func (s spooled) Close() error { return s.file.Close() }

// inside refuses what is no range of a disk, and what is not wanted any more.
func inside(ctx context.Context, size, off, n int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if off < 0 || n < 0 || off > size-n {
		return within(size, off, n)
	}
	return nil
}
