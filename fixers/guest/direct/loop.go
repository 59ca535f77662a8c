package direct

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// loop is a loop device over a part of a disk. The kernel detaches it when the
// last of us lets go, killed or not.
type loop struct {
	path string
	dev  string // major:minor
	file *os.File
	info *unix.LoopInfo64 // as the kernel tells it, to know it again
}

func (l *loop) node() string   { return l.path }
func (l *loop) number() string { return l.dev }

// loopTries bounds the race for a free loop device with others on the host.
const loopTries = 64

// attach makes a loop device of size bytes from offset of a disk.
func attach(disk *os.File, offset, size int64) (*loop, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(disk.Fd()), Info: unix.LoopInfo64{
		Offset: uint64(offset), Sizelimit: uint64(size), Flags: unix.LO_FLAGS_AUTOCLEAR}}
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		l, err := configure(fmt.Sprintf("/dev/loop%d", n), &config)
		if errors.Is(err, unix.EBUSY) { // another was quicker
			continue
		}
		return l, err
	}
	return nil, fmt.Errorf("no free loop device after %d tries: %w", loopTries, unix.EBUSY)
}

func configure(path string, config *unix.LoopConfig) (*loop, error) {
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
	return &loop{path: path, dev: fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), file: f, info: info}, nil
}

// detachWait is how long a detached device may stay: another program, such as
// udev, may look at it for a moment.
const detachWait = 10 * time.Second

// detach writes the device through and lets go of it, and returns when the
// kernel has let go of the disk.
func (l *loop) detach() error {
	if err := errors.Join(l.file.Sync(), l.file.Close()); err != nil {
		return err
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(detachWait); time.Now().Before(deadline); <-tick.C {
		gone, err := l.gone()
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is still attached after %v", l.path, detachWait)
}

// gone tells whether the device is free or already someone else's.
func (l *loop) gone() (bool, error) {
	f, err := os.Open(l.path)
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
	return info.Device != l.info.Device || info.Inode != l.info.Inode || info.Offset != l.info.Offset, nil
}
