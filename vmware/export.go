package vmware

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Export is a disk that a server sends as a streamOptimized VMDK.
type Export struct {
	URL        *url.URL
	Thumbprint string // SHA-1 of the certificate of the URL's host; empty if the server does not tell
	Size       int64  // bytes that will come, about; 0 if not known

	lease   *lease
	hand    *Hand
	closed  atomic.Bool
	unwatch func() bool
}

// lease is the server's promise to keep a VM as it is while it is exported. All disks of
// a snapshot, or of a VM that is off, share one: a second is refused.
type lease struct {
	id      string // in the ledger
	key     string // the VM and snapshot
	ref     types.ManagedObjectReference
	info    types.HttpNfcLeaseInfo
	disks   []*types.VirtualDisk
	devices []types.BaseVirtualDevice
	users   int
	torn    bool // one of its disks was not read whole
	percent atomic.Int32
	lost    atomic.Pointer[error]
	stop    context.CancelFunc
}

const (
	leaseReady = 5 * time.Minute
	// leaseEnd bounds the last call of an export, which is made even if the context of
	// what went before has ended.
	leaseEnd = 30 * time.Second
)

// Export begins to export a disk of a snapshot, or of a VM that is off, and keeps the
// export alive until Close. When ctx ends it is aborted.
func (h *Hand) Export(ctx context.Context, vm, snapshot string, key int32) (*Export, error) {
	h.export.Lock()
	defer h.export.Unlock()
	name := vm + "/" + snapshot
	l, err := h.shared(ctx, name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		if l, err = h.lease(ctx, vm, snapshot, name); err != nil {
			return nil, err
		}
		if h.leases == nil {
			h.leases = map[string]*lease{}
		}
		h.leases[name] = l
	}
	e, err := h.exported(ctx, l, key)
	if err != nil && l.users == 0 {
		return nil, errors.Join(err, h.leave(ctx, l, false))
	}
	return e, err
}

// shared is the lease that other disks have, nil if there is none that still holds. It
// is asked for each time: who has it may not know yet that it has ended.
func (h *Hand) shared(ctx context.Context, name string) (*lease, error) {
	l := h.leases[name]
	if l == nil || l.lost.Load() != nil {
		return nil, nil
	}
	var now mo.HttpNfcLease
	err := h.Session.look(ctx, l.ref, &now, "state", "error")
	if err == nil && now.State != types.HttpNfcLeaseStateReady {
		err = leaseError(now)
	}
	if gone(err) || errors.Is(err, ErrGone) {
		l.lost.Store(&err)
		return nil, nil
	}
	return l, explain(err, "the export of %s", name)
}

// exported is one disk of a lease.
func (h *Hand) exported(ctx context.Context, l *lease, key int32) (*Export, error) {
	device, err := l.device(key)
	if err != nil {
		return nil, err
	}
	u, err := h.Session.leaseURL(device.Url)
	if err != nil {
		return nil, err
	}
	l.users++
	e := &Export{URL: u, Thumbprint: device.SslThumbprint, Size: device.FileSize, lease: l, hand: h}
	e.unwatch = context.AfterFunc(ctx, func() {
		if err := e.Close(ctx, false); err != nil {
			h.Log.WarnContext(ctx, "an export ends only when the server's time for it is over", "object", l.key, "err", err)
		}
	})
	return e, nil
}

// lease notes and begins an export, and waits until it is ready.
func (h *Hand) lease(ctx context.Context, vm, snapshot, name string) (*lease, error) {
	t, err := h.ofVM(ctx, vm, KindLease)
	if err != nil {
		return nil, err
	}
	if snapshot == "" {
		if err := h.offAsKnown(ctx, vm); err != nil {
			return nil, err
		}
	}
	devices, err := h.Session.devicesIn(ctx, vm, snapshot)
	if err != nil {
		return nil, err
	}
	l := &lease{key: name, devices: devices, disks: disksAmong(devices)}
	t.Part = snapshot
	if t, err = h.note(t); err != nil {
		return nil, err
	}
	l.id = t.ID
	if l.ref, err = h.beginLease(ctx, vm, snapshot); err != nil {
		return nil, explain(err, "export %s", t.Name)
	}
	if err := h.Ledger.Settle(t.ID, Made, l.ref.Value); err != nil {
		return nil, errors.Join(err, h.leave(ctx, l, false))
	}
	if l.info, err = h.ready(ctx, l.ref); err != nil {
		return nil, errors.Join(explain(err, "export %s", t.Name), h.leave(ctx, l, false))
	}
	h.keep(ctx, l)
	return l, nil
}

// beginLease asks for an export. Who exports the VM already, a killed process maybe, is
// waited for.
func (h *Hand) beginLease(ctx context.Context, vm, snapshot string) (types.ManagedObjectReference, error) {
	until := time.Now().Add(h.patience())
	for p := newPauses(); ; {
		ref, err := h.askLease(ctx, vm, snapshot)
		if !isFault[*types.TaskInProgress](err) || time.Now().After(until) {
			return ref, err
		}
		if err := p.wait(ctx); err != nil {
			return ref, err
		}
	}
}

func (h *Hand) askLease(ctx context.Context, vm, snapshot string) (ref types.ManagedObjectReference, err error) {
	if snapshot != "" {
		res, err := methods.ExportSnapshot(ctx, h.Session.client, &types.ExportSnapshot{This: snapshotRef(snapshot)})
		if err != nil {
			return ref, err
		}
		return res.Returnval, nil
	}
	res, err := methods.ExportVm(ctx, h.Session.client, &types.ExportVm{This: vmRef(vm)})
	if err != nil {
		return ref, err
	}
	return res.Returnval, nil
}

// ready waits until a lease can be used.
func (h *Hand) ready(ctx context.Context, ref types.ManagedObjectReference) (types.HttpNfcLeaseInfo, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, leaseReady, fmt.Errorf("%w: the server did not get the export ready", ErrBusy))
	defer cancel()
	for p := newPauses(); ; {
		var l mo.HttpNfcLease
		err := h.Session.look(ctx, ref, &l, "state", "info", "error")
		switch {
		case err != nil:
			return types.HttpNfcLeaseInfo{}, err
		case l.State == types.HttpNfcLeaseStateReady && l.Info != nil:
			return *l.Info, nil
		case l.State == types.HttpNfcLeaseStateError, l.State == types.HttpNfcLeaseStateDone:
			return types.HttpNfcLeaseInfo{}, leaseError(l)
		}
		if err := p.wait(ctx); err != nil {
			return types.HttpNfcLeaseInfo{}, err
		}
	}
}

func leaseError(l mo.HttpNfcLease) error {
	if l.Error == nil {
		return fmt.Errorf("the export %w: the server ended it", ErrGone)
	}
	return fmt.Errorf("the export %w: %s", ErrGone, l.Error.LocalizedMessage)
}

// Progress says how much was read, 0 to 100, and what became of the export if it is
// not alive any more. It need not be called: the export is kept alive without it.
func (e *Export) Progress(_ context.Context, percent int) error {
	e.lease.percent.Store(int32(min(max(percent, 0), 100)))
	if lost := e.lease.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

// Close ends the export of this disk; complete if it was read whole. The last Close of
// a VM's disks gives the VM free again.
func (e *Export) Close(ctx context.Context, complete bool) error {
	if e.closed.Swap(true) {
		return nil
	}
	e.hand.export.Lock()
	defer e.hand.export.Unlock()
	e.unwatch()
	e.lease.torn = e.lease.torn || !complete
	if e.lease.users--; e.lease.users > 0 {
		return nil
	}
	return e.hand.leave(ctx, e.lease, !e.lease.torn)
}
