// Package vsphere brings guests from vSphere: it joins the control plane, which brings
// a VM to rest and takes back what it changed, with the transports, which read its
// disks.
//
// Cold: the VM is shut down, and stays so if its migration succeeds. Live: it runs on,
// and its disks are read as they were in a snapshot of our own.
package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
)

// Scheme is that of a source that is a VM: vsphere://vcenter.example.com/DC0/vm/web01.
const Scheme = "vsphere"

// Config says which VM is brought, and how.
type Config struct {
	Server vmware.Config
	VM     string // as vmware.Session.One takes it
	// Live leaves the VM running: for what only looks at it, and for rehearsals.
	Live    bool
	Quiesce bool // a live VM flushes its files first, if it can
	Power   vmware.PowerPolicy
	Marks   vmware.Marks // of a VM whose migration was proved
	// Transports are names of those that may be used, in the order in which they are
	// tried; the usual ones if empty.
	Transports []string
	VDDK       string // folder of VMware's library; "" if there is none
	// VDDKModes and VDDKPlugin are transport.Access's.
	VDDKModes, VDDKPlugin string
	SSH                   *transport.SSH
	Limits                []transfer.Limit // of the speed at which whole disks are taken in FETCH
	Own                   string           // the VM that this program runs in, as VM; found out if empty
	Folder                string           // of the migration
	// ID tells what is made in vSphere from others'; made up if empty.
	ID   string
	Log  *slog.Logger
	Tell func(text string) // of what takes long, one at a time; may be nil

	Known []transport.Transport // in place of all; for tests alone
}

// Parse takes a source apart: the server with its user, and the VM.
func Parse(text string) (server, user, vm string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != Scheme || u.Host == "" || strings.Trim(u.Path, "/") == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", "", fmt.Errorf("%w: %q: want vsphere://SERVER/VM, with the VM's inventory path, name, UUID or MoRef; a ?, # or %% in it is written as %%3F, %%23, %%25", source.ErrBadInput, text)
	}
	if _, has := u.User.Password(); has {
		return "", "", "", errPassword
	}
	vm = strings.Trim(u.Path, "/")
	if strings.Contains(vm, "/") { // an inventory path
		vm = "/" + vm
	}
	return u.Host, u.User.Username(), vm, nil
}

// Is tells whether a source is a VM in vSphere.
func Is(text string) bool { return strings.HasPrefix(text, Scheme+"://") }

// Origin is a VM that guests are brought from. It implements pipeline.Origin.
type Origin struct {
	Config
	ledger  *ledger
	session *vmware.Session
	refused error // why there is none: it is not tried again, as wrong passwords lock accounts
	hand    *vmware.Hand
	vm      vmware.VM
	around  vmware.Around
	own     string         // MoRef; "" if this program runs in no VM of the server's
	unready *fixer.Concern // that the guest was not quiesced, although that was asked for
	carried []*carried
	doubted bool                                     // what change tracking tells
	pace    func(ctx context.Context, n int64) error // of all disks together
	guard   *guard                                   // while disks are open; nil if none ever were

	freezing sync.Mutex // held while a VM that is off gets a snapshot
}

// New prepares to bring a VM. Nothing is asked of the server yet.
func New(c Config) (*Origin, error) {
	c.Tell = oneByOne(c.Tell)
	for _, name := range c.Transports {
		if !slices.ContainsFunc(transport.Transports(), func(t transport.Transport) bool { return t.Name == name }) {
			return nil, fmt.Errorf("%w: there is no transport %q", source.ErrBadInput, name)
		}
	}
	return &Origin{Config: c, pace: transfer.Pace(c.Limits)}, nil
}

// oneByOne is a teller for many.
func oneByOne(tell func(string)) func(string) {
	var mu sync.Mutex
	return func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if tell != nil {
			tell(text)
		}
	}
}

// connect logs in, and takes up what an earlier process noted.
func (o *Origin) connect(ctx context.Context) (err error) {
	if o.session != nil {
		return nil
	}
	if o.ledger, err = openLedger(o.Folder, o.ID); err != nil {
		return err
	}
	if o.session, o.refused = vmware.Connect(ctx, o.Server); o.refused != nil {
		return Asked(o.refused)
	}
	o.hand = &vmware.Hand{Session: o.session, Migration: o.ledger.kept.ID, Ledger: o.ledger, Log: o.Log}
	return nil
}

// Fetch implements pipeline.Origin. What forbids the migration is known before anything
// is changed.
func (o *Origin) Fetch(ctx context.Context) (machine.Machine, error) {
	if err := o.connect(ctx); err != nil {
		return machine.Machine{}, err
	}
	vm, around, err := o.session.Find(ctx, cmp.Or(o.ledger.kept.VM, o.VM))
	if err != nil {
		return machine.Machine{}, Asked(err)
	}
	o.vm, o.around = vm, around
	o.around.Live = o.Live
	if err := pipeline.Blocked(o.Concerns()); err != nil {
		return machine.Machine{}, fmt.Errorf("before anything was changed: %w", err)
	}
	if err := o.ledger.keep(func(k *kept) { k.VM, k.Name, k.Server = vm.Ref, vm.Name, o.Server.Server }); err != nil {
		return machine.Machine{}, err
	}
	if err := o.rest(ctx); err != nil {
		return machine.Machine{}, Asked(err)
	}
	return o.record()
}

// rest brings the VM's disks to rest: by a snapshot, or by shutting it down. Where they
// are then is kept.
func (o *Origin) rest(ctx context.Context) error {
	snapshot := ""
	if o.Live {
		o.Tell("freeze the disks of " + o.vm.Name + " by a snapshot")
		taken, err := o.hand.Snapshot(ctx, o.vm.Ref, vmware.SnapshotPolicy{Label: "live", Quiesce: o.Quiesce})
		if err != nil {
			return err
		}
		snapshot = taken.Snapshot
		o.quiesced(taken)
	} else {
		o.Tell("shut " + o.vm.Name + " down")
		if err := o.hand.Shutdown(ctx, o.vm.Ref, o.Power); err != nil {
			return err
		}
	}
	where, err := o.session.Where(ctx, o.vm.Ref, snapshot)
	if err != nil {
		return err
	}
	return o.ledger.keep(func(k *kept) { k.Live, k.Snapshot, k.Where = o.Live, snapshot, where })
}

// quiesced notes a guest that did not flush its files although it was asked to.
func (o *Origin) quiesced(taken vmware.Taken) {
	if o.unready = nil; taken.Why == "" {
		return
	}
	o.Tell("the guest was not quiesced: " + taken.Why)
	o.unready = &fixer.Concern{Level: fixer.Warning, Code: "vsphere/not-quiesced",
		Text: "the guest was not quiesced, and its disks were read as after a power failure: " + taken.Why,
		Try:  "see to it that VMware Tools, and VSS in Windows, are well, and take it again; or take it while it is off"}
}

// record is the VM's hardware. Its disks are where they are at rest.
func (o *Origin) record() (machine.Machine, error) {
	m := o.vm.Machine()
	m.Source = o.name()
	for i, d := range o.vm.Disks {
		files := o.ledger.kept.Where.Disks[d.Key]
		if len(files) == 0 {
			return m, fmt.Errorf("%w: %s of %s has no files that can be read", source.ErrBadInput, d.Label, o.vm.Name)
		}
		m.Disks[i].Path, m.Disks[i].Parents = files[0], files[1:]
		m.Disks[i].Serial = machine.Serial(m.Name, i)
	}
	if len(m.Disks) == 0 {
		return m, fmt.Errorf("%w: %s has no disk", source.ErrBadInput, o.vm.Name)
	}
	return m, nil
}

func (o *Origin) name() string {
	return (&url.URL{Scheme: Scheme, Host: o.Server.Server, Path: o.vm.Path}).String()
}

// Same implements pipeline.Origin.
func (o *Origin) Same(ctx context.Context, _ []pipeline.Identity) error {
	if err := o.connect(ctx); err != nil {
		return err
	}
	k := o.ledger.kept
	var unheard error
	if !k.Live {
		err := o.hand.StillOff(ctx, k.VM)
		if errors.Is(err, vmware.ErrUnheard) {
			unheard, err = fmt.Errorf("%w: %w", pipeline.ErrUnsure, err), nil
		}
		if err != nil {
			return changed(err)
		}
	}
	return cmp.Or(changed(o.session.Unmoved(ctx, k.VM, k.Snapshot, k.Where, false)), unheard)
}

// changed tells a VM that is not as it was from a server that does not say how it is.
func changed(err error) error {
	is := func(e error) bool { return errors.Is(err, e) }
	if !slices.ContainsFunc([]error{vmware.ErrPoweredOn, vmware.ErrMoved, vmware.ErrGone, vmware.ErrNotFound}, is) {
		return err
	}
	return fmt.Errorf("%w: %w", pipeline.ErrSourceChanged, err)
}

// Concerns implements pipeline.Origin.
func (o *Origin) Concerns() (list []fixer.Concern) {
	for _, c := range vmware.Concerns(o.vm, o.around) {
		list = append(list, fixer.Concern{Level: fixer.Level(c.Level), Code: c.Code, Text: c.Text, Try: c.Try})
	}
	if o.unready != nil {
		list = append(list, *o.unready)
	}
	return list
}
