package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/watch"
)

// hypervisor is a daemon as package watch sees it.
type hypervisor struct {
	daemon daemon
	host   host
}

// Plug opens the network of a NIC on a TCP port for QEMU alone: libvirt has no
// network card that connects to a Unix socket.
func (h *hypervisor) Plug(string, int) (net.Listener, error) {
	user, _ := h.host.runner()
	return lan.ListenLoopback(user)
}

// Start starts the domain for a proof of the emitted one.
func (h *hypervisor) Start(ctx context.Context, s watch.Spec, w watch.Wires) (watch.Machine, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("libvirt does not start the domain within %v", startTime))
	defer cancel()
	xml, differences, err := prepared(proof{spec: s, wires: w, host: h.host}, func(uuid string) (bool, error) {
		return within(ctx, func() (bool, error) { return h.daemon.Defines(uuid) })
	})
	if err != nil {
		return nil, err
	}
	sockets := []string{w.Serial}
	if w.Probe != "" {
		sockets = append(sockets, w.Probe)
	}
	for _, d := range s.Disks {
		sockets = append(sockets, d.Socket)
	}
	if err := h.host.lend(sockets); err != nil {
		return nil, fmt.Errorf("give the sockets to libvirt's QEMU: %w", err)
	}
	running, err := within(ctx, func() (handle, error) { return h.create(ctx, xml) })
	if err != nil {
		return nil, h.host.hint(err, w.Dir)
	}
	d := &domain{handle: running, by: h.host.by, differences: differences, news: newNews()}
	if _, err := within(ctx, d.letGo); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

// create starts a domain, and ends it if nobody waits for it any more.
func (h *hypervisor) create(ctx context.Context, xml string) (handle, error) {
	running, err := h.daemon.Create(xml)
	if err == nil && ctx.Err() != nil {
		return nil, errors.Join(context.Cause(ctx), running.Destroy())
	}
	return running, err
}

// domain is one that runs, as package watch sees it.
type domain struct {
	handle
	*news
	by          string
	differences []string
}

// letGo begins to listen to a domain that was started paused, and resumes it.
func (d *domain) letGo() (struct{}, error) {
	if err := d.Follow(d.event, d.end); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, d.Resume()
}

// About names the daemon, and all that was changed in the emitted domain.
func (d *domain) About() (by string, differences []string) { return d.by, d.differences }

// Picture takes a screenshot. A display that has nothing to show yet gives none.
func (d *domain) Picture(ctx context.Context) ([]byte, error) {
	return within(ctx, func() ([]byte, error) {
		picture, kind, err := d.Screenshot()
		if err == nil && len(picture) > 0 && kind != "image/png" {
			err = fmt.Errorf("libvirt gives a screenshot as %s: use QEMU 7.1 or newer, which makes PNG", kind)
		}
		return picture, err
	})
}

// Memory reads a part of the guest's memory.
func (d *domain) Memory(ctx context.Context, address, size int64) ([]byte, error) {
	return within(ctx, func() ([]byte, error) { return d.Peek(address, size) })
}

// Blocks is what libvirt counts for all disks.
func (d *domain) Blocks(ctx context.Context) (watch.Operations, error) {
	return within(ctx, d.Operations)
}

// Press sends keys to the domain's keyboard.
func (d *domain) Press(ctx context.Context, keys []int) error {
	_, err := within(ctx, func() (struct{}, error) { return struct{}{}, d.SendKeys(keys) })
	return err
}

// Stop ends the domain.
func (d *domain) Stop() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), endTime, fmt.Errorf("libvirt does not end the domain within %v", endTime))
	defer cancel()
	_, err := within(ctx, func() (struct{}, error) { return struct{}{}, d.Destroy() })
	return err
}

// maxWaiting is how many events wait for their reader.
const maxWaiting = 1024

// news is what libvirt says of a domain without being asked. It never makes
// libvirt wait, whose one thread brings the events of all domains.
type news struct {
	events chan qmp.Event
	done   chan struct{}

	mu    sync.Mutex
	lost  int64
	ended bool
	how   string
}

func newNews() *news {
	return &news{events: make(chan qmp.Event, maxWaiting), done: make(chan struct{})}
}

func (n *news) event(e qmp.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return
	}
	select {
	case n.events <- e:
	default:
		n.lost++
	}
}

// end is the domain's; what is said of it later is nothing new.
func (n *news) end(how string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ended {
		n.ended, n.how = true, how
		close(n.done)
		close(n.events)
	}
}

// Events are QEMU's, until the domain has ended.
func (n *news) Events() <-chan qmp.Event { return n.events }

// Done is closed when the domain has ended.
func (n *news) Done() <-chan struct{} { return n.done }

// Lost is how many events came too fast to be read.
func (n *news) Lost() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}

// LastWords is how libvirt says that the domain ended.
func (n *news) LastWords() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.how
}
