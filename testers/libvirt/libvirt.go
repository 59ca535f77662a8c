// Package libvirt runs a guest under proof as a domain of a libvirt daemon: the
// domain that was emitted, with throwaway disks and networks that lead nowhere.
// It is transient, and the daemon ends it when this program ends, however that
// is. So libvirt itself is seen to accept and to run what was emitted.
//
// libvirt is a C library: its binding is built with the tag "appliance"; without
// it Available is false and Boot says so.
package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers"
	"hyper2kvm/testers/watch"
)

var (
	// ErrNotBuilt is a program that was built without libvirt.
	ErrNotBuilt = errors.New("built without libvirt (tag appliance): build it with make")
	// ErrURI is a daemon that cannot run machines of this host.
	ErrURI = errors.New("not a libvirt of this host that runs QEMU")
	// ErrUnreachable is a daemon that does not serve us.
	ErrUnreachable = errors.New("cannot use libvirt")
)

const (
	// dialTime bounds the way to the daemon, which may have to be started first.
	dialTime = time.Minute
	// startTime bounds the start of a domain: libvirt first asks QEMU for all that
	// it can do, which takes 5 s on an idle host.
	startTime = 3 * time.Minute
	// endTime bounds the end of one.
	endTime = 30 * time.Second
)

// daemon is a libvirt daemon. Its calls block, and know no contexts.
type daemon interface {
	Version() (string, error)
	Capabilities() (string, error)     // as libvirt's XML
	Defines(uuid string) (bool, error) // tells whether there is a domain with it
	Create(xml string) (handle, error) // starts a transient domain, paused, that ends with the connection
	Close() error
}

// handle is a domain that runs. Its calls block, and know no contexts.
type handle interface {
	Follow(event func(qmp.Event), end func(how string)) error // neither may block
	Resume() error
	Screenshot() (picture []byte, kind string, err error)
	Peek(address, size int64) ([]byte, error) // at the guest's physical memory
	Operations() (watch.Operations, error)    // of the guest's disks
	SendKeys(keys []int) error                // together, by Linux's numbers
	Destroy() error                           // no error if it has ended by itself
}

// DefaultURI is the daemon that virsh would use: the host's for root, and the
// user's own for anybody else.
func DefaultURI() string {
	if os.Geteuid() == 0 {
		return "qemu:///system"
	}
	return "qemu:///session"
}

// Check tells whether a daemon can be used: ErrNotBuilt, ErrURI or ErrUnreachable
// if not.
func Check(ctx context.Context, uri string) error {
	d, _, err := reach(ctx, uri)
	if err != nil {
		return err
	}
	return d.Close()
}

// Boot runs one session as a domain of the daemon that s.Daemon names, or of
// DefaultURI; see watch.Boot.
func Boot(ctx context.Context, s watch.Spec) (_ testers.Session, err error) {
	d, h, err := reach(ctx, s.Daemon)
	if err != nil {
		return testers.Session{}, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return watch.Boot(ctx, s, &hypervisor{daemon: d, host: h})
}

// reach connects to a daemon and asks it how it runs machines.
func reach(ctx context.Context, uri string) (daemon, host, error) {
	if uri == "" {
		uri = DefaultURI()
	}
	if err := checkURI(uri); err != nil {
		return nil, host{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialTime, fmt.Errorf("%w: no answer at %s within %v", ErrUnreachable, uri, dialTime))
	defer cancel()
	d, err := within(ctx, func() (daemon, error) { return dial(uri) })
	if err != nil {
		return nil, host{}, err
	}
	h, err := within(ctx, func() (host, error) { return describe(d, uri) })
	if err != nil {
		return nil, host{}, errors.Join(err, d.Close())
	}
	return d, h, nil
}

// checkURI refuses what is not a QEMU of this host: a daemon elsewhere cannot
// reach our sockets.
// Source: libvirt, docs/uri.rst and docs/drvqemu.rst.
func checkURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "qemu" && u.Scheme != "qemu+unix" || u.Host != "" {
		return fmt.Errorf("%w: %q: want qemu:///system or qemu:///session", ErrURI, uri)
	}
	return nil
}

// within waits for a call that knows no contexts until ctx ends; the call is then
// left to itself.
func within[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		v, err := call()
		answered <- answer{v, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}
