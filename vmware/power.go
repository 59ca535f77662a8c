package vmware

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// PowerPolicy is how a VM is shut down.
type PowerPolicy struct {
	Wait  time.Duration // for the guest to shut itself down; 10 minutes if zero
	Force bool          // power it off when it does not; else ErrNeedsPowerOff
}

func (p PowerPolicy) wait() time.Duration {
	if p.Wait > 0 {
		return p.Wait
	}
	return 10 * time.Minute
}

// powered is what is known of a VM's power.
type powered struct {
	name  string
	state Power
	tools bool // that could shut its guest down run
}

// Shutdown has a VM shut down: by its guest if the tools run, else as the policy says.
// One that is off stays so. ErrSuspended and ErrNeedsPowerOff say what to do.
func (h *Hand) Shutdown(ctx context.Context, vm string, policy PowerPolicy) error {
	asked, err := h.Session.time(ctx)
	if err != nil {
		return err
	}
	now, err := h.Session.power(ctx, vm)
	switch {
	case err != nil:
		return err
	case now.state == Off:
		return h.foundOff(vm, now.name, asked)
	case now.state == Suspended:
		return fmt.Errorf("%s: %w: power it on and shut it down, or its memory is lost", now.name, ErrSuspended)
	case !now.tools && !policy.Force:
		return needsPowerOff(now.name, "its VMware Tools do not run")
	}
	return h.turn(ctx, vm, now, policy)
}

// foundOff notes since when a VM is known to be off that nobody has to shut down.
func (h *Hand) foundOff(vm, name, since string) error {
	t, err := h.note(Trace{Kind: KindPower, Object: vmRef(vm).String(), Name: name, Was: string(Off), Becomes: string(Off)})
	if err != nil {
		return err
	}
	return h.Ledger.Settle(t.ID, Undone, since)
}

func needsPowerOff(name, why string) error {
	return fmt.Errorf("%s: %w: %s: shut it down from within, or allow that it is powered off", name, ErrNeedsPowerOff, why)
}

// turn notes that a VM was on, and gets it off.
func (h *Hand) turn(ctx context.Context, vm string, now powered, policy PowerPolicy) error {
	noted, err := h.opened(func(t Trace) bool { return t.Kind == KindPower && t.Object == vmRef(vm).String() })
	if err != nil {
		return err
	}
	if len(noted) > 0 { // by a process that was killed
		since, err := h.off(ctx, vm, now, policy)
		if err != nil {
			return err
		}
		return h.Ledger.Settle(noted[0].ID, Made, since)
	}
	t := Trace{Kind: KindPower, Object: vmRef(vm).String(), Name: now.name, Was: string(On), Becomes: string(Off)}
	if now.tools {
		t.Part = policy.wait().String()
	}
	_, err = h.make(ctx, t, func(ctx context.Context) (string, error) { return h.off(ctx, vm, now, policy) })
	return err
}

// off gets a VM off, and tells since when it is, by the server's clock.
func (h *Hand) off(ctx context.Context, vm string, now powered, policy PowerPolicy) (string, error) {
	if err := h.getOff(ctx, vm, now, policy); err != nil {
		return "", err
	}
	return h.Session.time(ctx)
}

// time is the server's time, as traces keep it.
func (s *Session) time(ctx context.Context) (string, error) {
	res, err := methods.CurrentTime(ctx, s.client, &types.CurrentTime{This: vim25.ServiceInstance})
	if err != nil {
		return "", explain(err, "the server's clock")
	}
	return res.Returnval.UTC().Format(time.RFC3339Nano), nil
}

func (h *Hand) getOff(ctx context.Context, vm string, now powered, policy PowerPolicy) error {
	if now.tools {
		err := h.askGuest(ctx, vm, now, policy)
		if err == nil || !policy.Force || ctx.Err() != nil {
			return err
		}
		h.Log.WarnContext(ctx, "the guest did not shut down and is powered off", "object", vm, "err", err)
	}
	_, err := h.run(ctx, h.vm(vmRef(vm)).PowerOff)
	return explain(h.unlessPower(ctx, vm, Off, err), "power off %s", now.name)
}

// askGuest has the guest shut itself down, and waits for that.
func (h *Hand) askGuest(ctx context.Context, vm string, now powered, policy PowerPolicy) error {
	_, err := methods.ShutdownGuest(ctx, h.Session.client, &types.ShutdownGuest{This: vmRef(vm)})
	if isFault[*types.ToolsUnavailable](err) {
		return needsPowerOff(now.name, "its VMware Tools do not answer")
	}
	if err := h.unlessPower(ctx, vm, Off, err); err != nil {
		return explain(err, "shut down %s", now.name)
	}
	late := needsPowerOff(now.name, fmt.Sprintf("it did not shut down within %s", policy.wait()))
	limited, cancel := context.WithTimeoutCause(ctx, policy.wait(), late)
	defer cancel()
	return h.Session.awaitOff(limited, vm)
}

// awaitOff waits until a VM is off.
func (s *Session) awaitOff(ctx context.Context, vm string) error {
	for p := newPauses(); ; {
		now, err := s.power(ctx, vm)
		if err != nil || now.state == Off {
			return err
		}
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
}

// unlessPower forgets an error if a VM is in a state all the same: somebody, or a
// request whose answer was lost, was faster.
func (h *Hand) unlessPower(ctx context.Context, vm string, want Power, err error) error {
	if err == nil {
		return nil
	}
	if now, again := h.Session.power(ctx, vm); again == nil && now.state == want {
		return nil
	}
	return err
}

// StillOff is ErrPoweredOn if a VM is not off: what was copied is not what its disks
// hold any more.
func (s *Session) StillOff(ctx context.Context, vm string) error {
	now, err := s.power(ctx, vm)
	if err == nil && now.state != Off {
		err = poweredOn(now.name, "; find out who did that, shut it down and begin again")
	}
	return err
}

func poweredOn(name, rest string) error {
	return fmt.Errorf("%s: %w: what was copied is out of date%s", name, ErrPoweredOn, rest)
}

// StillOff is ErrPoweredOn if a VM is not off, or was on since Shutdown, as far as the
// server remembers that. ErrUnheard: it is off, and the server does not say.
func (h *Hand) StillOff(ctx context.Context, vm string) error {
	if err := h.Session.StillOff(ctx, vm); err != nil {
		return err
	}
	t, since, err := h.offSince(vm)
	if err != nil || since.IsZero() {
		return err
	}
	e, err := h.Session.poweredOnSince(ctx, vm, since)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	if e != nil {
		return poweredOn(t.Name, fmt.Sprintf(", though it is off again: %s did that at %s; see to it that nobody does, and begin again",
			cmp.Or(e.UserName, "somebody"), e.CreatedTime.UTC().Format(time.RFC3339)))
	}
	return nil
}

// offAsKnown is StillOff for what is done unless a VM is known to have been on.
func (h *Hand) offAsKnown(ctx context.Context, vm string) error {
	err := h.StillOff(ctx, vm)
	if errors.Is(err, ErrUnheard) {
		return nil
	}
	return err
}

// offSince is since when a VM is off, as Shutdown noted it; the zero time if it did not.
func (h *Hand) offSince(vm string) (t Trace, since time.Time, err error) {
	all, err := h.Ledger.Traces()
	if err != nil {
		return t, since, fmt.Errorf("read what was changed: %w", err)
	}
	for _, t = range slices.Backward(all) {
		if t.Kind == KindPower && t.Object == vmRef(vm).String() && t.Made != "" {
			since, err = time.Parse(time.RFC3339Nano, t.Made)
			return t, since, err
		}
	}
	return t, since, nil
}

// poweredOnSince is the first time that a VM was powered on since, as the server's events
// have it; nil if it was not. Where they cannot be read it is ErrUnheard. A VM that is off
// tells nothing of it by itself: its bootTime is cleared then.
//
// Source: vSphere Web Services API, EventManager.QueryEvents, VmPoweredOnEvent,
// DrsVmPoweredOnEvent; VirtualMachineRuntimeInfo.bootTime.
func (s *Session) poweredOnSince(ctx context.Context, vm string, since time.Time) (*types.Event, error) {
	manager := s.client.ServiceContent.EventManager
	if manager == nil {
		return nil, fmt.Errorf("%w: the server keeps no events", ErrUnheard)
	}
	res, err := methods.QueryEvents(ctx, s.client, &types.QueryEvents{This: *manager, Filter: types.EventFilterSpec{
		Entity:      &types.EventFilterSpecByEntity{Entity: vmRef(vm), Recursion: types.EventFilterSpecRecursionOptionSelf},
		Time:        &types.EventFilterSpecByTime{BeginTime: &since},
		EventTypeId: []string{"VmPoweredOnEvent", "DrsVmPoweredOnEvent"},
	}})
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnheard, explain(err, "the server's events"))
	case len(res.Returnval) == 0:
		return nil, nil
	}
	return slices.MinFunc(res.Returnval, func(a, b types.BaseEvent) int {
		return a.GetEvent().CreatedTime.Compare(b.GetEvent().CreatedTime)
	}).GetEvent(), nil
}

// obeyed waits for a guest that a killed process asked to shut down: it may still do so,
// and would then stay off.
func (h *Hand) obeyed(ctx context.Context, t Trace) error {
	ref, err := refOf(t.Object)
	if err != nil {
		return err
	}
	wait, err := time.ParseDuration(t.Part)
	if err != nil || time.Since(t.Time) > wait {
		return nil // it was not asked, or has had its time
	}
	errLate := errors.New("it did not shut down")
	limited, cancel := context.WithDeadlineCause(ctx, t.Time.Add(wait), errLate)
	defer cancel()
	if err := h.Session.awaitOff(limited, ref.Value); err != nil && !errors.Is(err, errLate) && !gone(err) {
		return err
	}
	return nil
}

func (h *Hand) powerOn(ctx context.Context, ref types.ManagedObjectReference) error {
	_, err := h.run(ctx, h.vm(ref).PowerOn)
	return h.onHost(ctx, ref, h.unlessPower(ctx, ref.Value, On, err))
}

// onHost says of an error that the VM's host is in maintenance, if it is.
func (h *Hand) onHost(ctx context.Context, ref types.ManagedObjectReference, err error) error {
	var v mo.VirtualMachine
	if err == nil || h.Session.look(ctx, ref, &v, "runtime.host") != nil || v.Runtime.Host == nil {
		return err
	}
	var host mo.HostSystem
	if h.Session.look(ctx, *v.Runtime.Host, &host, "name", "runtime.inMaintenanceMode") != nil || !host.Runtime.InMaintenanceMode {
		return err
	}
	return fmt.Errorf("%s: %w: take it out of maintenance, or move the VM to another: %w", host.Name, ErrMaintenance, err)
}

// power asks how a VM is.
func (s *Session) power(ctx context.Context, vm string) (powered, error) {
	var v mo.VirtualMachine
	err := s.look(ctx, vmRef(vm), &v, "name", "runtime.powerState", "guest.toolsRunningStatus")
	if err != nil {
		return powered{}, explain(err, "power state of %s", vm)
	}
	p := powered{name: unescaped(v.Name), state: powerStates[v.Runtime.PowerState]}
	p.tools = v.Guest != nil && v.Guest.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	return p, nil
}
