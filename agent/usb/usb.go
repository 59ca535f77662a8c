// Package usb puts the appliance's image onto a USB stick, and reads back that it is there.
package usb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

var (
	// ErrImage is a file that is no image of the appliance's.
	ErrImage = errors.New("cannot use this image")
	// ErrStick is a device that is not written to. What it wraps says why.
	ErrStick = errors.New("cannot write to this device")
	// ErrDiffers is a stick that does not give back what was written.
	ErrDiffers = errors.New("the stick does not give back what was written to it: try another one, or another port")
)

// chunk is how much is written and compared at a time.
const chunk = 4 << 20

// Progress is told of while an image is written, and then while it is read back.
type Progress func(verified bool, done, total int64)

// Write writes an image onto a stick and compares. The begin of the image, by which
// machines start from it, comes last: a stick that was pulled out in between does not start.
func Write(ctx context.Context, i *Image, s *Stick, tell Progress) error {
	if i.Size > s.Size {
		return fmt.Errorf("%w: %s has %d bytes, and the image %d: take a larger one", ErrStick, s.Path, s.Size, i.Size)
	}
	f, err := os.OpenFile(s.Path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %s is in use: unmount what is on it", ErrStick, s.Path)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStick, err)
	}
	defer f.Close()
	if err := write(ctx, i, f, func(n int64) { tell(false, n, i.Size) }); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil { // else memory is read, and not the stick
		return err
	}
	if err := compare(ctx, i, f, func(n int64) { tell(true, n, i.Size) }); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil && !errors.Is(err, unix.EINVAL) { // a device that has no partitions
		return fmt.Errorf("it is written; unplug it and plug it in again before it is used: %w", err)
	}
	return nil
}

// write keeps the first chunk back until the others are on the stick.
func write(ctx context.Context, i *Image, to *os.File, tell func(int64)) error {
	from, err := i.open()
	if err != nil {
		return err
	}
	defer from.Close()
	first := make([]byte, min(chunk, i.Size))
	if _, err := io.ReadFull(from, first); err != nil {
		return fmt.Errorf("%w: %w", ErrImage, err)
	}
	if _, err := to.WriteAt(make([]byte, len(first)), 0); err != nil {
		return err
	}
	if err := to.Sync(); err != nil { // what was on the stick does not start either
		return err
	}
	if err := each(ctx, from, i.Size, int64(len(first)), func(at int64, b []byte) error {
		_, err := to.WriteAt(b, at)
		tell(at + int64(len(b)))
		return err
	}); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	if _, err := to.WriteAt(first, 0); err != nil {
		return err
	}
	return to.Sync()
}

func compare(ctx context.Context, i *Image, with *os.File, tell func(int64)) error {
	from, err := i.open()
	if err != nil {
		return err
	}
	defer from.Close()
	there := make([]byte, chunk)
	return each(ctx, from, i.Size, 0, func(at int64, b []byte) error {
		if _, err := with.ReadAt(there[:len(b)], at); err != nil {
			return err
		}
		if !bytes.Equal(there[:len(b)], b) {
			return fmt.Errorf("%w (at byte %d and behind)", ErrDiffers, at)
		}
		tell(at + int64(len(b)))
		return nil
	})
}

// each calls do with every chunk from a place on.
func each(ctx context.Context, from io.Reader, size, at int64, do func(at int64, b []byte) error) error {
	buffer := make([]byte, chunk)
	for at < size {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buffer[:min(chunk, size-at)]
		if _, err := io.ReadFull(from, b); err != nil {
			return fmt.Errorf("%w: %w", ErrImage, err)
		}
		if err := do(at, b); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return nil
}
