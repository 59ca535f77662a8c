package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
)

// hotadd attaches a disk to the machine that this program runs on, and reads it as a
// local one: nothing goes over a network but what the storage needs. It is taken away
// again when it is closed, and when it cannot be opened.
var hotadd = Hotadd("/sys", "/dev")

// Hotadd is hotadd where the kernel shows its disks in sys and dev, in place of /sys and
// /dev.
func Hotadd(sys, dev string) Transport {
	k := here
	k.sys, k.dev = sys, dev
	return Transport{Name: "hotadd", Does: "attaches the disk to this appliance and reads it there", Open: k.open}
}

// kernel is where a kernel shows its disks.
type kernel struct {
	sys, dev string        // /sys and /dev
	wait     time.Duration // for a disk to arrive
	look     time.Duration // between two looks
	rescan   time.Duration // between two scans of the SCSI hosts
}

var here = kernel{wait: time.Minute, look: 100 * time.Millisecond, rescan: 5 * time.Second}

// detachWait is how long a disk may take to be taken away.
const detachWait = 5 * time.Minute

func (k kernel) open(ctx context.Context, _ Access, d Disk) (disk.Remote, error) {
	if d.Attach == nil {
		return nil, fmt.Errorf("%w by hot-add: this program does not run in a VM of this vSphere", ErrUnusable)
	}
	before, err := k.disks()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	}
	attached, err := d.Attach(ctx)
	if err != nil {
		return nil, err
	}
	// Whatever became of ctx, the disk must not stay.
	detach := func() error {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), detachWait, fmt.Errorf("the disk was not detached from this appliance within %v", detachWait))
		defer cancel()
		return attached.Detach(ctx)
	}
	r, err := k.arrived(ctx, before, attached.Serial, d)
	if err != nil {
		return nil, errors.Join(err, detach())
	}
	return &closing{Remote: skipping(r, d.Allocated), then: detach}, nil
}

// arrived is the device of a disk that was attached.
func (k kernel) arrived(ctx context.Context, before []scsiDisk, serial string, d Disk) (*device, error) {
	name, err := k.arrival(ctx, before, serial)
	if err != nil {
		return nil, err
	}
	// O_EXCL: nothing else here has the disk, such as a volume group that was found on it.
	// Source: open(2), O_EXCL of block devices.
	f, err := os.OpenFile(filepath.Join(k.dev, name), os.O_RDONLY|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: something on this appliance uses it: turn off what activates volumes by itself", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w by hot-add: %w", ErrUnusable, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size != d.Size {
		err = fmt.Errorf("%s has %d bytes, and the inventory's disk %d", name, size, d.Size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w by hot-add: %w", ErrUnusable, err), f.Close())
	}
	return &device{kernel: k, name: name, file: f, size: size}, nil
}

// device is a disk of this machine that is only read.
type device struct {
	kernel kernel
	name   string
	file   *os.File
	size   int64
}

// Size implements disk.Remote.
func (d *device) Size() int64 { return d.size }

// Read implements disk.Remote. What was read is not kept in the kernel's memory: it is
// read once, and the machine has better use for it.
func (d *device) Read(ctx context.Context, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if err := within(d.size, off, int64(len(p))); err != nil {
		return err
	}
	for len(p) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(len(p), mostRead)
		if _, err := d.file.ReadAt(p[:n], off); err != nil {
			return fmt.Errorf("hotadd: %w", err)
		}
		// Advice alone: what cannot be dropped stays.
		_ = unix.Fadvise(int(d.file.Fd()), off, int64(n), unix.FADV_DONTNEED)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// Extents implements disk.Remote: a device has no map, so all may be data.
func (d *device) Extents(_ context.Context, off, n int64) ([]disk.Allocation, error) {
	if err := within(d.size, off, n); err != nil {
		return nil, err
	}
	return []disk.Allocation{{Offset: off, Length: n}}, nil
}

// Close implements disk.Remote. The kernel forgets the device before it is taken away, or
// one without a disk would stay where the controller does not tell.
//
// Source: Linux, Documentation/ABI/testing/sysfs-block-device, device/delete.
func (d *device) Close() error {
	err := d.file.Close()
	forget := os.WriteFile(filepath.Join(d.kernel.sys, "block", d.name, "device", "delete"), []byte("1"), 0)
	if errors.Is(forget, os.ErrNotExist) { // no SCSI disk, or gone already
		forget = nil
	}
	return errors.Join(err, forget)
}
