package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
)

// vddk reads a disk through VMware's library, which nbdkit's vddk plugin loads. It is
// the quickest way over a network, and with the mode san it reads a storage area
// network without one. The library is VMware's: an operator brings it.
//
// Source: nbdkit-vddk-plugin(1).
var vddk = Transport{
	Name: "vddk",
	Does: "reads the disk through VMware's library, which nbdkit loads",
	Open: openVDDK,
}

// openWait is how long VMware's library may take to open a disk: it logs in, asks the
// vCenter for the host, and connects there.
const openWait = 2 * time.Minute

func openVDDK(ctx context.Context, a Access, d Disk) (disk.Remote, error) {
	if err := vddkLacks(a, d); err != nil {
		return nil, err
	}
	library, err := ProbeVDDK(ctx, a)
	if err != nil {
		return nil, err
	}
	v := &vddkDisk{access: a, disk: d, silence: nbd.LongestSilence}
	v.access.VDDK = library.Folder // the link to it may lead elsewhere before the disk is read
	ctx, cancel := context.WithTimeoutCause(ctx, openWait, fmt.Errorf("VMware's library opened the disk not within %v", openWait))
	defer cancel()
	if err := v.start(ctx); err != nil {
		return nil, err
	}
	if size := v.client.Size(); size != d.Size {
		err := fmt.Errorf("%w by VDDK: its disk has %d bytes, and the inventory's %d", ErrUnusable, size, d.Size)
		return nil, errors.Join(err, v.Close())
	}
	if library.Mapped {
		return v, nil
	}
	return skipping(v, d.Allocated), nil
}

// vddkLacks is what the plugin would miss.
func vddkLacks(a Access, d Disk) error {
	lacks := func(what string) error { return fmt.Errorf("%w by VDDK: %s", ErrUnusable, what) }
	switch {
	case a.VDDK == "":
		return lacks("VMware's library is not here: upload VMware-vix-disklib-VERSION.x86_64.tar.gz")
	case a.Server == nil || a.Login == nil:
		return lacks("no user and password of the server are known, and the library logs in by itself")
	case a.Thumbprint == "":
		return lacks("the thumbprint of the server's certificate is not known")
	case d.VM == "" || len(d.Files) == 0:
		return lacks("the VM or the disk's file is not known")
	}
	return nil
}
