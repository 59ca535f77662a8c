package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/pipeline/disk/vhost"
)

// allocation is the metadata context in which servers tell holes from data.
const allocation = "base:allocation"

// laneWait bounds the wait for a server's other client to leave.
const laneWait = 2 * time.Second

// How long a copy waits before it dials a lost server again: twice as long each
// time.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 15 * time.Second
)

// patience is what is put up with from a server.
type patience struct {
	again   time.Duration // that one that was lost is dialed again; not at all if zero
	silence time.Duration // that one may owe an answer and send nothing; for ever if zero
}

// export is a disk behind an NBD server. A connection that dies is made anew,
// and what was asked is asked again.
type export struct {
	at   disk.Export
	size int64
	may  patience

	lane *vhost.Device // the same disk in shared memory, if there is a way

	mu     sync.Mutex
	client *nbd.Client
}

func openExport(ctx context.Context, at disk.Export, may patience) (*export, error) {
	client, err := dial(ctx, at, may)
	if err != nil {
		return nil, err
	}
	return &export{at: at, size: client.Size(), may: may, client: client}, nil
}

func dial(ctx context.Context, at disk.Export, may patience) (*nbd.Client, error) {
	return nbd.Dial(ctx, nbd.Options{Socket: at.Socket, Export: at.Name, Contexts: []string{allocation, depth}, Silence: may.silence})
}

func (e *export) Size() int64 { return e.size }

// join takes the quicker way for what is read and written in a memory, if the
// server has it and has no other client there.
func (e *export) join(ctx context.Context, m *vhost.Memory) {
	if e.at.Shared == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, laneWait)
	defer cancel()
	if lane, err := vhost.Dial(ctx, e.at.Shared, m); err == nil {
		lane.Silence = e.may.silence
		e.lane = lane
	}
}

// quick tells whether the quicker way did a request. What it could not do for
// whatever reason, NBD does, or tells why not; but a server that has fallen silent there
// may still write to the memory, which then is nobody's.
func (e *export) quick(do func(*vhost.Device) error) (bool, error) {
	if e.lane == nil {
		return false, nil
	}
	err := do(e.lane)
	if errors.Is(err, vhost.ErrSilent) {
		return false, err
	}
	return err == nil, nil
}

func (e *export) Read(ctx context.Context, p []byte, off int64) error {
	if did, err := e.quick(func(d *vhost.Device) error { return d.Read(ctx, p, off) }); did || err != nil {
		return err
	}
	return e.ask(ctx, func(c *nbd.Client) error { return c.Read(ctx, p, off) })
}

// Extents takes all for data where the server does not tell.
func (e *export) Extents(ctx context.Context, off, n int64) (list []Extent, err error) {
	var found []nbd.Extent
	err = e.ask(ctx, func(c *nbd.Client) error {
		found, err = c.Extents(ctx, allocation, off, n)
		return err
	})
	if errors.Is(err, nbd.ErrNoContext) {
		return []Extent{{Offset: off, Length: n}}, nil
	}
	for _, f := range found {
		list = append(list, Extent{Offset: off, Length: f.Length, Zero: f.Flags&nbd.Zero != 0})
		off += f.Length
	}
	return list, err
}

func (e *export) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var failed error
	if e.lane != nil {
		failed = e.lane.Close()
	}
	return errors.Join(failed, e.client.Close())
}

// ask asks the server, and asks once more each time that the connection dies.
func (e *export) ask(ctx context.Context, question func(*nbd.Client) error) error {
	for {
		e.mu.Lock()
		c := e.client
		e.mu.Unlock()
		err := question(c)
		if !errors.Is(err, nbd.ErrDisconnected) || e.may.again == 0 {
			return err
		}
		if failed := e.redial(ctx, c); failed != nil {
			return fmt.Errorf("%w; %w", err, failed)
		}
	}
}

// redial replaces a client whose connection died, unless that was done already.
func (e *export) redial(ctx context.Context, dead *nbd.Client) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != dead {
		return nil
	}
	deadline := time.Now().Add(e.may.again)
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		client, err := dial(ctx, e.at, e.may)
		if err == nil && client.Size() != e.size {
			return errors.Join(fmt.Errorf("the server came back with a disk of %d bytes, it was %d", client.Size(), e.size), client.Close())
		}
		if err == nil {
			e.client = client
			return dead.Close()
		}
		if errors.Is(err, nbd.ErrProtocol) || time.Until(deadline) < wait {
			return fmt.Errorf("it was dialed again for %v: %w", e.may.again, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
