package vsphere

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
)

// carried is how one disk is read.
type carried struct {
	size int64
	read atomic.Int64
	mu   sync.Mutex
	by   string
	not  []string
}

// heard takes note of what a carrier tells.
func (c *carried) heard(e transport.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !e.Used {
		c.not = append(c.not, fmt.Sprintf("%s: %v", e.Transport, e.Reason))
		return
	}
	c.by = e.Transport
}

// Carried implements pipeline.Origin.
func (o *Origin) Carried() (list []pipeline.Carried) {
	for i, c := range o.carried {
		c.mu.Lock()
		list = append(list, pipeline.Carried{Disk: i, By: c.by, Not: slices.Clone(c.not), Read: c.read.Load(), Size: c.size})
		c.mu.Unlock()
	}
	return list
}

// Open implements pipeline.Origin.
func (o *Origin) Open(ctx context.Context, m machine.Machine) (sources []*disk.Source, ids []pipeline.Identity, err error) {
	if err := o.connect(ctx); err != nil {
		return nil, nil, err
	}
	if o.vm.Ref == "" { // another process fetched it
		if o.vm, err = o.session.Known(ctx, o.ledger.kept.VM); err != nil {
			return nil, nil, changed(err)
		}
	}
	if len(o.vm.Disks) != len(m.Disks) {
		return nil, nil, fmt.Errorf("%w: %s had %d disks and has %d", pipeline.ErrSourceChanged, o.vm.Name, len(m.Disks), len(o.vm.Disks))
	}
	if err := o.findOwn(ctx); err != nil {
		return nil, nil, err
	}
	o.guard.stop()
	o.guard = watch(func(ctx context.Context) error { return o.Same(ctx, nil) })
	if sources, err = o.openAll(ctx); err != nil {
		return sources, nil, err
	}
	for i, d := range o.vm.Disks {
		ids = append(ids, pipeline.Identity{Path: m.Disks[i].Path, Size: d.Size})
	}
	return sources, ids, nil
}

// openAll opens the disks one after another, so that what forbids it is known early and
// the same each time. One that is taken whole for that, which may be hours, does not hold
// up the next. With an error it returns those that are open.
func (o *Origin) openAll(whole context.Context) ([]*disk.Source, error) {
	o.carried = nil
	opened := make([]*disk.Source, len(o.vm.Disks))
	g, ctx := errgroup.WithContext(whole)
	for i, d := range o.vm.Disks {
		c := &carried{size: d.Size}
		o.carried = append(o.carried, c)
		next, begun := context.WithCancel(ctx)
		g.Go(func() error {
			r, err := o.open(ctx, d, c, begun)
			if err != nil { // which ends next too, with ctx
				return fmt.Errorf("%s of %s: %w", d.Label, o.vm.Name, err)
			}
			opened[i] = disk.FromRemote(r)
			begun()
			return nil
		})
		if <-next.Done(); ctx.Err() != nil {
			break
		}
	}
	err := g.Wait()
	if err == nil {
		err = context.Cause(whole) // between two disks
	}
	return slices.DeleteFunc(opened, func(s *disk.Source) bool { return s == nil }), err
}

// Doubt implements pipeline.Origin: change tracking has forgotten writes in some versions.
func (o *Origin) Doubt() { o.doubted = true }

// findOwn finds the VM that this program runs in, if it runs in one of this server's.
func (o *Origin) findOwn(ctx context.Context) error {
	if o.Own != "" {
		own, err := o.session.One(ctx, o.Own)
		o.own = own.Ref
		return Asked(err)
	}
	own, err := o.session.OwnVM(ctx)
	if err != nil {
		o.Log.Info("no disk can be attached to the VM that this program runs in", "err", err)
	}
	o.own = own
	return nil
}

// open opens one disk by the first transport that can. begun is called once it is taken
// whole.
func (o *Origin) open(ctx context.Context, d vmware.Disk, c *carried, begun func()) (disk.Remote, error) {
	from := o.disk(d)
	from.Begun = begun
	from.Came = func(n int64) { c.read.Add(n) }
	r, err := transport.Open(ctx, o.transports(), o.access(), from, func(e transport.Event) {
		c.heard(e)
		o.Log.Info("transport", "disk", d.Label, "vm", o.vm.Name, "transport", e.Transport, "used", e.Used, "err", e.Reason)
		if e.Used {
			o.Tell(fmt.Sprintf("read %s by %s", d.Label, e.Transport))
		}
	})
	if err != nil {
		return nil, err
	}
	return guarded{r, o.guard}, nil
}

// transports are those that may be used, in their order. What only looks at a VM reads
// a few blocks, for which NFC would send whole disks.
func (o *Origin) transports() (list []transport.Transport) {
	all := o.Known
	if all == nil {
		all = transport.Transports()
	}
	if len(o.Transports) == 0 {
		return slices.DeleteFunc(slices.Clone(all), func(t transport.Transport) bool { return o.Live && t.Name == "nfc" })
	}
	for _, name := range o.Transports {
		for _, t := range all {
			if t.Name == name {
				list = append(list, t)
			}
		}
	}
	return list
}

// access is how transports reach the server.
func (o *Origin) access() transport.Access {
	return transport.Access{Server: o.session.URL(), Thumbprint: o.session.Thumbprint(), HTTP: o.session.HTTPClient(),
		Cookie: o.session.Cookie, Login: o.session.Login, VDDK: o.VDDK, VDDKModes: o.VDDKModes, VDDKPlugin: o.VDDKPlugin, SSH: o.SSH, Pace: o.pace}
}

// disk is what transports are told of a disk.
func (o *Origin) disk(d vmware.Disk) transport.Disk {
	k := o.ledger.kept
	t := transport.Disk{VM: o.vm.Ref, Snapshot: k.Snapshot, Key: d.Key, Files: k.Where.Disks[d.Key], Datacenter: o.vm.Datacenter,
		Host: o.session.Address(o.vm.Host), UUID: d.UUID, Size: d.Size, Folder: filepath.Join(o.Folder, "work"), Holds: d.Holds(), Next: o.next(d),
		Export: func(ctx context.Context) (transport.Export, error) { return o.export(ctx, d.Key) }}
	if o.vm.CBT && !o.doubted {
		t.Allocated = o.session.Allocated(o.vm.Ref, k.Snapshot, d.Key, d.Size).Extents
	}
	if o.own != "" {
		t.Attach = func(ctx context.Context) (transport.Attached, error) { return o.attach(ctx, o.own, d.Key) }
	}
	return t
}

// next is what the disks after one hold together.
func (o *Origin) next(d vmware.Disk) (n int64) {
	at := slices.IndexFunc(o.vm.Disks, func(other vmware.Disk) bool { return other.Key == d.Key })
	for _, after := range o.vm.Disks[at+1:] {
		n += after.Holds()
	}
	return n
}

// export has the server send a disk.
func (o *Origin) export(ctx context.Context, key int32) (transport.Export, error) {
	e, err := o.hand.Export(ctx, o.vm.Ref, o.ledger.kept.Snapshot, key)
	if err != nil {
		return transport.Export{}, err
	}
	client, err := o.session.ClientFor(e.URL.Host, e.Thumbprint)
	if err != nil {
		return transport.Export{}, errors.Join(err, e.Close(context.WithoutCancel(ctx), false))
	}
	progress := func(ctx context.Context, percent int) error {
		if lost := e.Progress(ctx, percent); lost != nil {
			return fmt.Errorf("the export %w: %w", transport.ErrEnded, lost)
		}
		return nil
	}
	return transport.Export{URL: e.URL, Client: client, Progress: progress, Close: e.Close}, nil
}

// attach makes a disk one of the VM that this program runs in. A VM that is off gets a
// snapshot for it, on which nothing is written.
func (o *Origin) attach(ctx context.Context, own string, key int32) (transport.Attached, error) {
	snapshot, err := o.frozen(ctx)
	if err != nil {
		return transport.Attached{}, err
	}
	a, err := o.hand.Attach(ctx, own, o.vm.Ref, snapshot, key)
	if err != nil {
		return transport.Attached{}, err
	}
	o.Tell(a.Warning)
	return transport.Attached{Serial: strings.ToLower(strings.ReplaceAll(a.UUID, "-", "")),
		Detach: func(ctx context.Context) error { return o.hand.Detach(ctx, a) }}, nil
}

// frozen is a snapshot of ours of the disks that are read, one for all of them.
func (o *Origin) frozen(ctx context.Context) (string, error) {
	o.freezing.Lock()
	defer o.freezing.Unlock()
	if o.ledger.kept.Snapshot != "" {
		return o.ledger.kept.Snapshot, nil
	}
	taken, err := o.hand.Snapshot(ctx, o.vm.Ref, vmware.SnapshotPolicy{Label: "off"})
	return taken.Snapshot, err
}
