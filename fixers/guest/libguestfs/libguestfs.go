// Package libguestfs reaches a guest's files through libguestfs: a small
// virtual machine of its own mounts the disks, so that a hostile file system
// meets no kernel of ours. It is the reference engine, and opens what the
// direct engine cannot.
//
// libguestfs is a C library: the engine is built with the tag "appliance";
// without it Available is false and Open says so.
package libguestfs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"hyper2kvm/fixers/guest"
)

// ErrNotBuilt is a program that was built without libguestfs.
var ErrNotBuilt = errors.New("built without libguestfs (tag appliance)")

// ErrLaunch is a virtual machine of libguestfs that did not come up. What is on the disks
// is not the cause: it was not looked at yet.
var ErrLaunch = errors.New("libguestfs's virtual machine did not start")

// Export is one disk, served as raw bytes by an NBD server.
type Export struct {
	Socket string // path of the server's Unix socket
	Name   string // export name, may be empty
}

// Options say how the virtual machine runs. The zero value is useful.
type Options struct {
	TCG      bool          // emulate: the probe found no working KVM
	Memory   int64         // bytes; libguestfs's own choice if zero
	Deadline time.Duration // for the launch; 2 minutes, 10 with TCG, if zero
	Keys     *guest.Keyring
}

// Open launches the virtual machine with a guest's disks in the machine's
// order. When ctx ends first, the machine is killed and the error is the context's
// cause; when the launch's deadline does, it is ErrLaunch. When ctx ends later, the
// machine is killed as well: a call that is under way, or comes then, fails soon, but for
// what is remembered, and Err and Close tell the context's cause.
func Open(ctx context.Context, disks []Export, opts Options, log *slog.Logger) (guest.Guest, error) {
	g, err := open(ctx, disks, opts, log)
	if err != nil {
		return nil, err
	}
	return guest.Remember(g), nil // each call is one on another machine
}
