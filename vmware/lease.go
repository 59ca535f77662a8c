package vmware

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// keep renews a lease in the background, three times as often as it must be.
func (h *Hand) keep(ctx context.Context, l *lease) {
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	every := max(time.Duration(l.info.LeaseTimeout)*time.Second/3, 100*time.Millisecond)
	go func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := h.renew(ctx, l); err != nil && ctx.Err() == nil {
				h.Log.WarnContext(ctx, "an export is not kept alive", "object", l.key, "err", err)
				l.lost.Store(&err)
				return
			}
		}
	}()
}

// renew says that a lease is still needed. An error is one that trying again cannot mend.
func (h *Hand) renew(ctx context.Context, l *lease) error {
	until := time.Now().Add(time.Duration(l.info.LeaseTimeout) * time.Second / 2)
	for p := newPauses(); ; {
		_, err := methods.HttpNfcLeaseProgress(ctx, h.Session.client, &types.HttpNfcLeaseProgress{This: l.ref, Percent: l.percent.Load()})
		final := gone(err) || isFault[*types.Timedout](err) || isFault[*types.InvalidState](err)
		if err == nil || ctx.Err() != nil || final || time.Now().After(until) {
			return explain(err, "keep the export of %s alive", l.key)
		}
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
}

// leave ends a lease and settles it, also if ctx has ended. h.export is held.
func (h *Hand) leave(ctx context.Context, l *lease, complete bool) error {
	if h.leases[l.key] == l {
		delete(h.leases, l.key)
	}
	if l.stop != nil {
		defer l.stop()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseEnd)
	defer cancel()
	if err := h.endLease(ctx, l.ref, complete && l.lost.Load() == nil); err != nil {
		return err
	}
	return h.Ledger.Settle(l.id, Undone, "")
}

func (h *Hand) endLease(ctx context.Context, ref types.ManagedObjectReference, complete bool) error {
	var err error
	if complete {
		_, err = methods.HttpNfcLeaseComplete(ctx, h.Session.client, &types.HttpNfcLeaseComplete{This: ref})
	} else {
		_, err = methods.HttpNfcLeaseAbort(ctx, h.Session.client, &types.HttpNfcLeaseAbort{This: ref})
	}
	if gone(err) || isFault[*types.Timedout](err) || isFault[*types.InvalidState](err) {
		return nil // it has ended by itself
	}
	return explain(err, "end an export")
}

// dropLease aborts an export that a killed process began. One of another log-in may be
// out of reach, and ends when it was not renewed for its time.
func (h *Hand) dropLease(ctx context.Context, t Trace) error {
	if t.Made == "" {
		return nil
	}
	return h.endLease(ctx, types.ManagedObjectReference{Type: "HttpNfcLease", Value: t.Made}, false)
}

// leaseURL reads the address of a disk. A host calls itself *.
// Source: vSphere API, HttpNfcLeaseDeviceUrl.url.
func (s *Session) leaseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the server exports at %q, which is no https address", text)
	}
	if u.Hostname() != "*" {
		return u, nil
	}
	own := s.client.URL()
	switch {
	case u.Port() != "":
		u.Host = net.JoinHostPort(own.Hostname(), u.Port())
	default:
		u.Host = own.Host
	}
	return u, nil
}

// device finds where a disk is exported: by the controller and unit that its key names,
// else by its place among the disks.
func (l *lease) device(key int32) (types.HttpNfcLeaseDeviceUrl, error) {
	var exported []types.HttpNfcLeaseDeviceUrl
	for _, d := range l.info.DeviceUrl {
		if d.Disk != nil && *d.Disk {
			exported = append(exported, d)
		}
	}
	for i, disk := range l.disks {
		if disk.Key != key {
			continue
		}
		for _, d := range exported {
			if at := l.address(disk); at != "" && path.Base(d.Key) == at {
				return d, nil
			}
		}
		if len(exported) == len(l.disks) {
			return exported[i], nil
		}
	}
	return types.HttpNfcLeaseDeviceUrl{}, fmt.Errorf("disk %d: %w: the server exports %d of the VM's %d disks, and not this one",
		key, ErrCannot, len(exported), len(l.disks))
}

// address is how an export names a disk's place: ParaVirtualSCSIController0:1.
func (l *lease) address(disk *types.VirtualDisk) string {
	for _, d := range l.devices {
		c, ok := d.(types.BaseVirtualController)
		if !ok || d.GetVirtualDevice().Key != disk.ControllerKey || disk.UnitNumber == nil {
			continue
		}
		kind := strings.TrimPrefix(fmt.Sprintf("%T", d), "*types.")
		return fmt.Sprintf("%s%d:%d", kind, c.GetVirtualController().BusNumber, *disk.UnitNumber)
	}
	return ""
}
