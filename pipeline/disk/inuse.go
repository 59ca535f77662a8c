package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrInUse is a disk that somebody writes to: a copy of it would be of no
// moment that ever was.
var ErrInUse = errors.New("source is in use")

// InUse tells as cheaply as possible whether somebody works with a source's
// file: VMware, which leaves its locks beside it on whatever host it runs, or a
// program on this host. It cannot tell of other hosts' programs.
func InUse(path string) error {
	if err := lockedByVMware(path); err != nil {
		return err
	}
	return usedHere(path)
}

// InUse tells whether somebody works with the disk. VMware's locks on a disk
// below a snapshot are those of readers: other clones of it may run.
func (c *Chain) InUse() error {
	for _, f := range c.Files() {
		if err := usedHere(f); err != nil {
			return err
		}
	}
	if len(c.links) == 0 {
		return lockedByVMware(c.Path)
	}
	return lockedByVMware(c.links[0].path)
}

func usedHere(path string) error {
	if err := lockedHere(path); err != nil {
		return err
	}
	return writtenHere(path)
}

// lockedByVMware finds the lock of a file: Workstation and Fusion make a folder
// FILE.lck, with a file for each program that has it open; ESXi on NFS makes
// hidden files .lck-… in the VM's folder.
//
// Source: Workstation Pro, "Lock Files"; VMware KB 10051, for NFS.
func lockedByVMware(path string) error {
	locks := []string{path + ".lck"}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".lck-") {
			locks = append(locks, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	for _, l := range locks {
		if _, err := os.Lstat(l); err == nil {
			return fmt.Errorf("%s: %w: VMware's lock %s is there; shut the VM down, or remove the lock if no VM runs (a copy made while it ran is to be made again)", path, ErrInUse, l)
		}
	}
	return nil
}

// Bytes of a file whose locks mean that QEMU writes to it or resizes it.
//
// Source: QEMU, block/file-posix.c, RAW_LOCK_PERM_BASE; block-common.h, BLK_PERM_WRITE, BLK_PERM_RESIZE.
var lockedBytes = []int64{100 + 1, 100 + 3}

// lockedHere asks the kernel for locks of other programs on this host: those of
// QEMU for writing, and any exclusive one, as VMware's and VirtualBox's.
func lockedHere(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	asked := []unix.Flock_t{{Type: unix.F_RDLCK}}
	for _, b := range lockedBytes {
		asked = append(asked, unix.Flock_t{Type: unix.F_WRLCK, Start: b, Len: 1})
	}
	for _, l := range asked {
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err == nil && l.Type != unix.F_UNLCK {
			return fmt.Errorf("%s: %w: another program on this host has locked it; shut the VM down that uses it, or end that program", path, ErrInUse)
		}
	}
	return nil
}

// writtenHere asks the kernel for a lease, which it denies while the file is
// open for writing on this host, and a device for itself alone, which it denies
// while it is mounted or part of another one. Where the kernel gives no leases,
// nothing is known.
//
// Source: fcntl(2), F_SETLEASE; open(2), O_EXCL.
func writtenHere(path string) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() == os.ModeDevice {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s: %w: it is mounted on this host, or part of another device; unmount it", path, ErrInUse)
		}
		if err != nil {
			return err
		}
		return f.Close()
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("%s: %w: a program on this host has it open for writing; shut the VM down that uses it, or wait until the copy is made", path, ErrInUse)
	}
	if err != nil {
		return nil // another user's file, or a file system without leases
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	return err
}
