package direct

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// A kernel knows the file systems of btrfs by UUID: of two clones of one template
// it refuses the second (before Linux 6.7), or shows it under another UUID. So one
// of a UUID is shown at a time, by all agents of a network namespace, and another
// guest's waits for its turn; agents in others are refused by the kernel. When one is unmounted or refused the kernel
// forgets its device: a test holds kernels to that.
//
// Source: Linux fs/btrfs/volumes.c, device_list_add, btrfs_close_devices.

// btrfsDevice is a device with a btrfs, whose UUID nobody else uses meanwhile.
type btrfsDevice struct {
	device
	uuid  string
	claim *os.File
}

// turn is how long another guest's is waited for: one that is being migrated is shown for
// seconds at a time.
const turn = time.Minute

// attachBtrfs makes a device of what a btrfs lies on.
func (g *engine) attachBtrfs(f guest.Filesystem) (_ device, err error) {
	if err := checkBtrfs(g.reader(f.Device)); err != nil {
		return nil, err
	}
	if g.shows(f.UUID) { // it would be waited for in vain
		return nil, fmt.Errorf("%w: another btrfs of this guest has its UUID", ErrUnsupported)
	}
	claim, err := claimBtrfs(f.UUID, turn)
	if err != nil {
		return nil, err
	}
	d, err := g.attachAny(f)
	if err != nil {
		return nil, errors.Join(err, claim.Close())
	}
	return btrfsDevice{d, f.UUID, claim}, nil
}

// shows tells whether another file system of this guest has the UUID, and is shown.
func (g *engine) shows(uuid string) bool {
	return slices.ContainsFunc(g.mounts.list, func(m mounted) bool {
		d, ok := m.device.device.(btrfsDevice)
		return ok && d.uuid == uuid
	})
}

// Detach also lets others use the UUID.
func (d btrfsDevice) Detach() error { return errors.Join(d.device.Detach(), d.claim.Close()) }

// The superblock, and in it the number of devices that the file system lies on.
//
// Source: Linux include/uapi/linux/btrfs_tree.h, struct btrfs_super_block.
const (
	btrfsSuper   = 64 << 10
	btrfsDevices = 136
)

// checkBtrfs refuses a file system of several devices: the kernel would look for
// the others among all that it remembers.
func checkBtrfs(r io.ReaderAt) error {
	n := make([]byte, 8)
	if _, err := r.ReadAt(n, btrfsSuper+btrfsDevices); err != nil {
		return err
	}
	if devices := binary.LittleEndian.Uint64(n); devices != 1 {
		return fmt.Errorf("%w: it is a btrfs of %d devices", ErrUnsupported, devices)
	}
	return nil
}

// claimBtrfs takes a UUID for this process, and waits until no other guest has it. What
// others have mounted here is theirs.
func claimBtrfs(uuid string, wait time.Duration) (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	claim, err := proc.AwaitClaim(ctx, "btrfs-"+uuid)
	switch {
	case errors.Is(err, proc.ErrClaimed):
		return nil, fmt.Errorf("%w: another guest has shown a btrfs of its UUID for %v", ErrUnsupported, wait)
	case err != nil:
		return nil, err
	}
	if _, err := os.Stat("/sys/fs/btrfs/" + uuid); err == nil {
		return nil, errors.Join(fmt.Errorf("%w: this machine has mounted a btrfs of its UUID", ErrUnsupported), claim.Close())
	}
	return claim, nil
}
