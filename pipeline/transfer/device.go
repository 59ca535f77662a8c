package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// ends are the parts of a device, at its start and its end, in which partition
// tables and file systems have their signatures.
const ends = 1 << 20

// Fits is ErrTarget for a device that is too small, that is used, or that holds
// something, unless that may be overwritten; and for a file that its file system may be
// unable to hold.
func (t Target) Fits() error {
	if !t.Device {
		return t.storable()
	}
	f, err := t.openDevice()
	if err != nil {
		return err
	}
	defer f.Close()
	if f.size < t.Size {
		return fmt.Errorf("%w: %s has %d bytes, the disk has %d; give a larger device", ErrTarget, t.Path, f.size, t.Size)
	}
	if t.Overwrite {
		return nil
	}
	p := make([]byte, min(ends, f.size))
	for _, off := range []int64{0, f.size - int64(len(p))} {
		if _, err := f.ReadAt(p, off); err != nil {
			return fmt.Errorf("%w: %w", ErrTarget, err)
		}
		if !isZero(p) {
			return fmt.Errorf("%w: %s holds something; wipe it (blkdiscard, or dd from /dev/zero), or say that it may be overwritten", ErrTarget, t.Path)
		}
	}
	return nil
}

// openDevice opens the device for nobody else that opens it in this way: the
// kernel does so for what it has mounted.
func (t Target) openDevice() (*file, error) {
	f, err := openFile(t.Path, os.O_RDWR|os.O_EXCL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	if !f.device {
		return nil, errors.Join(fmt.Errorf("%w: %s is no block device", ErrTarget, t.Path), f.Close())
	}
	return f, nil
}

// wipe takes a device's signatures away: what is behind them is not whole.
func (t Target) wipe() (err error) {
	f, err := t.openDevice()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n := min(ends, f.size)
	for _, off := range []int64{0, f.size - n} {
		if err := writeZeroes(context.Background(), f, off, n); err != nil {
			return unwritten(err)
		}
	}
	return f.File.Sync()
}
