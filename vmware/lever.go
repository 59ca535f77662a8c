package vmware

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// lever is one property of a VM that can be written, as text.
type lever struct {
	read  func(ctx context.Context, h *Hand, t Trace) (string, error)
	write func(ctx context.Context, h *Hand, t Trace, value string) error
}

// levers are the kinds of traces whose values are simply written back.
var levers = map[TraceKind]lever{
	KindPower:  {readPower, writePower},
	KindCBT:    {readCBT, writeCBT},
	KindName:   {readName, writeName},
	KindNIC:    {readNIC, writeNIC},
	KindFolder: {readFolder, writeFolder},
	KindNote:   {readNote, writeNote},
}

// set notes a setting's value and changes it. Nothing is done where it is so already.
func (h *Hand) set(ctx context.Context, t Trace) error {
	noted, err := h.opened(t.same)
	if err != nil {
		return err
	}
	now, err := levers[t.Kind].read(ctx, h, t)
	switch {
	case err != nil:
		return explain(err, "%s of %s", t.Kind, t.Name)
	case now == t.Becomes && len(noted) > 0:
		return h.Ledger.Settle(noted[0].ID, Made, "")
	case now == t.Becomes:
		return nil
	}
	t.Was = now
	_, err = h.make(ctx, t, func(ctx context.Context) (string, error) {
		return "", explain(levers[t.Kind].write(ctx, h, t, t.Becomes), "change %s of %s", t.Kind, t.Name)
	})
	return err
}

// same reports whether two traces change the same to the same.
func (t Trace) same(other Trace) bool {
	return t.Kind == other.Kind && t.Object == other.Object && t.Part == other.Part && t.Becomes == other.Becomes
}

// reset gives a setting the value that it had. One that has neither the value that it
// had nor the one that it was given belongs to somebody else: ErrChanged.
func (h *Hand) reset(ctx context.Context, t Trace) error {
	if t.Kind == KindPower && t.State == Noted {
		if err := h.obeyed(ctx, t); err != nil {
			return err
		}
	}
	now, err := levers[t.Kind].read(ctx, h, t)
	switch {
	case gone(err):
		return nil
	case err != nil:
		return explain(err, "%s of %s", t.Kind, t.Name)
	case now == t.Was:
		return nil
	case now != t.Becomes:
		return fmt.Errorf("%s of %s: %w: it was %q, became %q and is now %q: it stays so", t.Kind, t.Name, ErrChanged, t.Was, t.Becomes, now)
	}
	return explain(levers[t.Kind].write(ctx, h, t, t.Was), "take back %s of %s", t.Kind, t.Name)
}

// SetCBT has the changes of a VM's disks tracked, or not. It holds for a running VM
// from its next snapshot on.
func (h *Hand) SetCBT(ctx context.Context, vm string, on bool) error {
	t, err := h.ofVM(ctx, vm, KindCBT)
	if err != nil {
		return err
	}
	t.Becomes = strconv.FormatBool(on)
	return h.set(ctx, t)
}

// ofVM begins a trace of a VM.
func (h *Hand) ofVM(ctx context.Context, vm string, kind TraceKind) (Trace, error) {
	var v mo.VirtualMachine
	err := h.Session.look(ctx, vmRef(vm), &v, "name")
	return Trace{Kind: kind, Object: vmRef(vm).String(), Name: unescaped(v.Name)}, explain(err, "name of %s", vm)
}

// seen reads a VM's properties for a trace.
func (h *Hand) seen(ctx context.Context, t Trace, properties ...string) (v mo.VirtualMachine, err error) {
	ref, err := refOf(t.Object)
	if err != nil {
		return v, err
	}
	return v, h.Session.look(ctx, ref, &v, properties...)
}

func readPower(ctx context.Context, h *Hand, t Trace) (string, error) {
	v, err := h.seen(ctx, t, "runtime.powerState")
	return string(powerStates[v.Runtime.PowerState]), err
}

func writePower(ctx context.Context, h *Hand, t Trace, value string) error {
	if value != string(On) {
		return fmt.Errorf("%w: a VM is powered on, not %s", ErrCannot, value)
	}
	ref, err := refOf(t.Object)
	if err != nil {
		return err
	}
	return h.powerOn(ctx, ref)
}

func readCBT(ctx context.Context, h *Hand, t Trace) (string, error) {
	v, err := h.seen(ctx, t, "config.changeTrackingEnabled")
	on := v.Config != nil && v.Config.ChangeTrackingEnabled != nil && *v.Config.ChangeTrackingEnabled
	return strconv.FormatBool(on), err
}

func writeCBT(ctx context.Context, h *Hand, t Trace, value string) error {
	return h.reconfigure(ctx, t.Object, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(value == "true")})
}

func readNote(ctx context.Context, h *Hand, t Trace) (string, error) {
	v, err := h.seen(ctx, t, "config.annotation")
	if err != nil || v.Config == nil {
		return "", err
	}
	return v.Config.Annotation, nil
}

func writeNote(ctx context.Context, h *Hand, t Trace, value string) error {
	if value == "" {
		return h.clearNote(ctx, t.Object)
	}
	return h.reconfigure(ctx, t.Object, types.VirtualMachineConfigSpec{Annotation: value})
}

func readName(ctx context.Context, h *Hand, t Trace) (string, error) {
	v, err := h.seen(ctx, t, "name")
	return unescaped(v.Name), err
}

// escaped is how a server stores a name. Source: vSphere API, ManagedEntity.name.
var escaped = strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c")

func writeName(ctx context.Context, h *Hand, t Trace, value string) error {
	ref, err := refOf(t.Object)
	if err != nil {
		return err
	}
	_, err = h.run(ctx, func(ctx context.Context) (*object.Task, error) { return h.vm(ref).Rename(ctx, escaped.Replace(value)) })
	return err
}

func readFolder(ctx context.Context, h *Hand, t Trace) (string, error) {
	v, err := h.seen(ctx, t, "parent")
	if err != nil || v.Parent == nil {
		return "", err
	}
	return v.Parent.String(), nil
}

func writeFolder(ctx context.Context, h *Hand, t Trace, value string) error {
	folder, err := refOf(value)
	if err != nil {
		return err
	}
	ref, err := refOf(t.Object)
	if err != nil {
		return err
	}
	_, err = h.run(ctx, func(ctx context.Context) (*object.Task, error) {
		return object.NewFolder(h.Session.client, folder).MoveInto(ctx, []types.ManagedObjectReference{ref})
	})
	return err
}

// clearNote is a change of a VM that sets its annotation to nothing: govmomi's own leaves
// out what is empty, and a server leaves as it is what is left out.
type clearNote struct {
	This types.ManagedObjectReference `xml:"_this"`
	Spec struct {
		Annotation string `xml:"annotation"`
	} `xml:"spec"`
}

func (h *Hand) clearNote(ctx context.Context, vm string) error {
	ref, err := refOf(vm)
	if err != nil {
		return err
	}
	type ReconfigVM_TaskBody struct {
		soap.HasFault `xml:"-"`
		Req           *clearNote `xml:"urn:vim25 ReconfigVM_Task"`
	}
	_, err = h.run(ctx, func(ctx context.Context) (*object.Task, error) {
		var res methods.ReconfigVM_TaskBody
		if err := h.Session.client.RoundTrip(ctx, &ReconfigVM_TaskBody{Req: &clearNote{This: ref}}, &res); err != nil {
			return nil, err
		}
		return object.NewTask(h.Session.client, res.Res.Returnval), nil
	})
	return err
}

// reconfigure changes a VM's settings.
func (h *Hand) reconfigure(ctx context.Context, vm string, spec types.VirtualMachineConfigSpec) error {
	ref, err := refOf(vm)
	if err != nil {
		return err
	}
	_, err = h.run(ctx, func(ctx context.Context) (*object.Task, error) { return h.vm(ref).Reconfigure(ctx, spec) })
	return err
}
