// Package loop shows parts of files as block devices of this kernel's. The kernel detaches
// a device when the last of its users lets go, killed or not.
package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Device is a loop device.
type Device struct {
	node, number string
	file         *os.File
	info         *unix.LoopInfo64 // as the kernel tells it, to know it again
}

// Node is the device's path.
func (d *Device) Node() string { return d.node }

// Number is its major:minor.
func (d *Device) Number() string { return d.number }

// tries bounds the race for a free loop device with others on the host.
const tries = 64

// errLeaving is a device that whoever had it is detaching, as losetup does: it cannot be
// opened until that is done.
//
// Source: Linux drivers/block/loop.c, lo_open.
const errLeaving = unix.ENXIO

// Attach makes a device of size bytes from offset of a file, or of all that is behind
// offset if size is 0. It can be written if the file was opened for that.
func Attach(file *os.File, offset, size int64) (*Device, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{
		Offset: uint64(offset), Sizelimit: uint64(size), Flags: unix.LO_FLAGS_AUTOCLEAR}}
	for range tries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		d, err := configure(fmt.Sprintf("/dev/loop%d", n), &config)
		if errors.Is(err, unix.EBUSY) || errors.Is(err, errLeaving) { // another was quicker
			continue
		}
		return d, err
	}
	return nil, fmt.Errorf("no free loop device after %d tries: %w", tries, unix.EBUSY)
}

func configure(path string, config *unix.LoopConfig) (*Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlLoopConfigure(int(f.Fd()), config); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: configure: %w", path, err), f.Close())
	}
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: status: %w", path, err), f.Close())
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Device{path, fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), f, info}, nil
}

// detachWait is how long a detached device may stay: another program, such as
// udev, may look at it for a moment.
const detachWait = 10 * time.Second

// Detach writes the device through and lets go of it, and returns when the
// kernel has let go of the file.
func (d *Device) Detach() error {
	if err := errors.Join(d.file.Sync(), d.file.Close()); err != nil {
		return err
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(detachWait); time.Now().Before(deadline); <-tick.C {
		gone, err := d.gone()
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is still attached after %v", d.node, detachWait)
}

// gone tells whether the device is free or already someone else's.
func (d *Device) gone() (bool, error) {
	f, err := os.Open(d.node)
	if errors.Is(err, errLeaving) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return info.Device != d.info.Device || info.Inode != d.info.Inode || info.Offset != d.info.Offset, nil
}

// File is a file as the kernel knows it.
type File struct{ Device, Inode uint64 }

// FileOf is an opened file.
func FileOf(f *os.File) (File, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return File{st.Dev, st.Ino}, err
}

// Over names the devices that show any of the files.
//
// Source: loop(4), LOOP_GET_STATUS64.
func Over(files []File) (paths []string, err error) {
	bound, err := filepath.Glob("/sys/block/loop*/loop")
	for _, entry := range bound {
		path := "/dev/" + filepath.Base(filepath.Dir(entry))
		f, err := os.Open(path)
		// One of Attach's can be opened as long as it shows something. /sys tells a container
		// of its host's too.
		if errors.Is(err, errLeaving) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		if err == nil && slices.Contains(files, File{info.Device, info.Inode}) {
			paths = append(paths, path)
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return paths, err
}
