// Package vhost reads and writes disks that QEMU's storage daemon serves in shared
// memory, by vhost-user-blk: the daemon reads a disk's file right into the buffer
// that is then written from, where a socket costs two copies of every byte. It does
// bulk alone. What else is to be known or done of a disk, and why a request
// failed, the same disk's NBD export tells.
//
// Memory: what is shared. Device: one disk. Ring: where requests are put and
// answers found.
//
// Source: QEMU, docs/interop/vhost-user.rst; VIRTIO 1.2, 5.2 "Block Device".
package vhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that callers decide on.
var (
	// ErrFailed is a request that the device could not do; NBD tells why.
	ErrFailed = errors.New("vhost: the request failed")
	// ErrLost is a device whose server is gone, or that does not speak the protocol.
	ErrLost = errors.New("vhost: the device is lost")
	// ErrSilent is a device that owes answers and gave none for longer than it may. What
	// was to be read may still come.
	ErrSilent = errors.New("vhost: the device has fallen silent")
	// ErrUnfit is a request that does not consist of whole sectors in the memory.
	ErrUnfit = errors.New("vhost: no whole sectors in shared memory")
)

const sector = 512

// Device is one disk. Any number of goroutines may use it.
type Device struct {
	// Silence is how long a device that owes answers may give none; zero: for ever. It is
	// set before the first request.
	Silence time.Duration

	began      time.Time
	answered   atomic.Int64 // when it gave one last: nanoseconds since it began
	channel    channel
	memory     *Memory
	ring       *ring
	kick, call *os.File
	size       int64
	slots      chan int
	answers    [requests]chan struct{}
	put        sync.Mutex

	mu   sync.Mutex
	err  error
	lost chan struct{} // closed with err
	over sync.WaitGroup
}

// Dial sets a device up. A server has one client at a time; ctx bounds the wait.
func Dial(ctx context.Context, socket string, m *Memory) (*Device, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("vhost: %w", err)
	}
	d := &Device{channel: channel{conn.(*net.UnixConn)}, memory: m, began: time.Now(), slots: make(chan int, requests), lost: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = d.setUp()
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vhost: %s: %w", socket, err), d.release())
	}
	for i := range requests {
		d.answers[i] = make(chan struct{}, 1)
		d.slots <- i
	}
	d.over.Go(d.listen)
	d.over.Go(d.watch)
	return d, nil
}

// Size is the disk's in bytes, of whole sectors.
func (d *Device) Size() int64 { return d.size }

// Read fills p, a part of the memory, with what lies at off.
func (d *Device) Read(ctx context.Context, p []byte, off int64) error {
	return d.do(ctx, typeIn, p, off)
}

// Write writes p, a part of the memory, to off.
func (d *Device) Write(ctx context.Context, p []byte, off int64) error {
	return d.do(ctx, typeOut, p, off)
}

// do has a request done. It returns when the device has let go of p, or is lost.
// A device that does not answer after ctx has ended is given up, and p with it: the
// server may still write to it.
func (d *Device) do(ctx context.Context, kind uint32, p []byte, off int64) error {
	at, ok := d.memory.offset(p)
	if !ok || len(p)%sector != 0 || off%sector != 0 || off < 0 || off > d.size-int64(len(p)) {
		return ErrUnfit
	}
	var slot int
	select {
	case slot = <-d.slots:
	case <-d.lost:
		return d.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.put.Lock()
	d.ring.put(slot, kind, uint64(off/sector), at, uint32(len(p)))
	_, err := d.kick.Write(numbers(1))
	d.put.Unlock()
	if err != nil {
		d.lose(err)
	}
	if err := d.await(ctx, slot); err != nil {
		return err
	}
	status := d.ring.status(slot)
	d.slots <- slot
	if status != 0 {
		return fmt.Errorf("%w: status %d, %d bytes at %d", ErrFailed, status, len(p), off)
	}
	return nil
}

// listen hands answers out.
func (d *Device) listen() {
	b := make([]byte, 8)
	for {
		if _, err := d.call.Read(b); err != nil {
			d.lose(err)
			return
		}
		for {
			slot, ok, err := d.ring.take()
			if err != nil {
				d.lose(err)
				return
			}
			if !ok {
				break
			}
			d.answered.Store(int64(time.Since(d.began)))
			select {
			case d.answers[slot] <- struct{}{}:
			default:
				d.lose(errRing)
				return
			}
		}
	}
}

// watch notices when the server ends: it says nothing unasked.
func (d *Device) watch() {
	_, err := d.channel.Read(make([]byte, 1))
	d.lose(err)
}

// lose ends the device for all. A server that is gone writes to no memory.
func (d *Device) lose(why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return
	}
	if d.err = fmt.Errorf("%w: %v", ErrLost, why); errors.Is(why, ErrSilent) {
		d.err = fmt.Errorf("%w: %w", ErrLost, why)
	}
	close(d.lost)
	_ = d.channel.Close() // wakes what waits, whatever it says
	_ = d.call.Close()
}

// Close ends the device. No request may be under way.
func (d *Device) Close() error {
	d.lose(net.ErrClosed)
	d.over.Wait()
	return d.release()
}

func (d *Device) release() error {
	failed := []error{closed(d.channel.Close())}
	for _, f := range []*os.File{d.kick, d.call} {
		if f != nil {
			failed = append(failed, closed(f.Close()))
		}
	}
	if d.ring != nil {
		failed = append(failed, d.ring.memory.Close())
	}
	return errors.Join(failed...)
}

// closed lets pass that something was closed before.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
