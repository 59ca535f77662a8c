package vmware

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Marks are what is done to a source VM when its migration has succeeded, so that
// nobody takes it for the one that serves. What is empty is not done. Nothing is ever
// deleted.
type Marks struct {
	Note           string // a line for its annotation; {name}, {migration} and {date} are filled in
	DisconnectNICs bool   // they do not come up when it is powered on
	Tag            Tag
	CreateTag      bool   // and its category, where they are not there
	Rename         string // its name; {name}, {migration} and {date} are filled in
	Folder         string // an inventory path: /DC0/vm/Migrated
}

// mostName is how long a VM's name may be. Source: vSphere API, ManagedEntity.Rename_Task
// and vCenter's own limit of 80 characters.
const mostName = 80

// Mark marks a VM that is off. It can be done again: what is marked already stays.
func (h *Hand) Mark(ctx context.Context, vm string, m Marks) error {
	if err := h.offAsKnown(ctx, vm); err != nil {
		return err
	}
	steps := []struct {
		wanted bool
		do     func(context.Context, string, Marks) error
	}{
		{m.Note != "", h.markNote},
		{m.DisconnectNICs, h.markNICs},
		{m.Tag != Tag{}, h.markTag},
		{m.Rename != "", h.markName},
		{m.Folder != "", h.markFolder},
	}
	for _, s := range steps {
		if !s.wanted {
			continue
		}
		if err := s.do(ctx, vm, m); err != nil {
			return fmt.Errorf("mark the source: %w", err)
		}
	}
	return nil
}

// fill fills a template in.
func (h *Hand) fill(template, name string, at time.Time) string {
	return strings.NewReplacer("{name}", name, "{migration}", h.Migration, "{date}", at.UTC().Format(time.DateOnly)).Replace(template)
}

// began is a trace of the kind that is open on a VM: what it was named and filled in
// with must not change when a killed process's marks are gone on with.
func (h *Hand) began(vm string, kind TraceKind, part string) (Trace, bool, error) {
	list, err := h.opened(func(t Trace) bool { return t.Kind == kind && t.Object == vmRef(vm).String() && t.Part == part })
	if err != nil || len(list) == 0 {
		return Trace{}, false, err
	}
	return list[0], true, nil
}

func (h *Hand) markNote(ctx context.Context, vm string, m Marks) error {
	t, err := h.ofVM(ctx, vm, KindNote)
	if err != nil {
		return err
	}
	if old, ok, err := h.began(vm, KindNote, ""); err != nil || ok {
		return h.again(ctx, old, err)
	}
	was, err := readNote(ctx, h, t)
	if err != nil {
		return explain(err, "annotation of %s", t.Name)
	}
	t.Becomes = strings.TrimLeft(strings.TrimRight(was, "\n")+"\n"+h.fill(m.Note, t.Name, time.Now()), "\n")
	return h.set(ctx, t)
}

// again finishes what an open trace says.
func (h *Hand) again(ctx context.Context, t Trace, err error) error {
	if err != nil {
		return err
	}
	now, err := levers[t.Kind].read(ctx, h, t)
	switch {
	case err != nil:
		return explain(err, "%s of %s", t.Kind, t.Name)
	case now == t.Was:
		err = explain(levers[t.Kind].write(ctx, h, t, t.Becomes), "change %s of %s", t.Kind, t.Name)
	case now != t.Becomes:
		err = fmt.Errorf("%s of %s: %w: it is %q", t.Kind, t.Name, ErrChanged, now)
	}
	if err != nil {
		return err
	}
	return h.Ledger.Settle(t.ID, Made, "")
}

func (h *Hand) markName(ctx context.Context, vm string, m Marks) error {
	if old, ok, err := h.began(vm, KindName, ""); err != nil || ok {
		return h.again(ctx, old, err)
	}
	t, err := h.ofVM(ctx, vm, KindName)
	if err != nil {
		return err
	}
	t.Becomes = h.fill(m.Rename, t.Name, time.Now())
	if n := len([]rune(t.Becomes)); n > mostName {
		return fmt.Errorf("rename %s: %q has %d characters, and a VM's name at most %d: use a shorter template", t.Name, t.Becomes, n, mostName)
	}
	return h.set(ctx, t)
}

func (h *Hand) markFolder(ctx context.Context, vm string, m Marks) error {
	t, err := h.ofVM(ctx, vm, KindFolder)
	if err != nil {
		return err
	}
	folder, err := h.Session.folder(ctx, m.Folder)
	if err != nil {
		return err
	}
	t.Becomes = folder.String()
	return h.set(ctx, t)
}

// folder finds a folder for VMs by its path in the inventory.
func (s *Session) folder(ctx context.Context, path string) (types.ManagedObjectReference, error) {
	index := s.client.ServiceContent.SearchIndex
	res, err := methods.FindByInventoryPath(ctx, s.client, &types.FindByInventoryPath{This: *index, InventoryPath: strings.Trim(path, "/")})
	if err != nil {
		return types.ManagedObjectReference{}, explain(err, "folder %s", path)
	}
	if res.Returnval == nil || res.Returnval.Type != "Folder" {
		return types.ManagedObjectReference{}, fmt.Errorf("folder %s: %w: make it, or write its path as /Datacenter/vm/Folder", path, ErrGone)
	}
	return *res.Returnval, nil
}

// markNICs has a VM's NICs not connected when it is powered on.
func (h *Hand) markNICs(ctx context.Context, vm string, _ Marks) error {
	t, err := h.ofVM(ctx, vm, KindNIC)
	if err != nil {
		return err
	}
	v, err := h.seen(ctx, t, "config.hardware.device")
	if err != nil || v.Config == nil {
		return explain(err, "NICs of %s", t.Name)
	}
	for _, d := range v.Config.Hardware.Device {
		if _, ok := d.(types.BaseVirtualEthernetCard); !ok {
			continue
		}
		t.Part, t.Becomes = strconv.Itoa(int(d.GetVirtualDevice().Key)), "false"
		if err := h.set(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// readNIC tells whether a NIC is connected when its VM is powered on.
func readNIC(ctx context.Context, h *Hand, t Trace) (string, error) {
	nic, err := h.nic(ctx, t)
	if err != nil {
		return "", err
	}
	c := nic.GetVirtualDevice().Connectable
	return strconv.FormatBool(c != nil && c.StartConnected), nil
}

func writeNIC(ctx context.Context, h *Hand, t Trace, value string) error {
	nic, err := h.nic(ctx, t)
	if err != nil {
		return err
	}
	d := nic.GetVirtualDevice()
	if d.Connectable == nil {
		d.Connectable = &types.VirtualDeviceConnectInfo{AllowGuestControl: true}
	}
	d.Connectable.StartConnected = value == "true"
	return h.reconfigure(ctx, t.Object, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: nic}}})
}

// nic is the NIC that a trace is about; ErrGone if it was removed.
func (h *Hand) nic(ctx context.Context, t Trace) (types.BaseVirtualDevice, error) {
	v, err := h.seen(ctx, t, "config.hardware.device")
	if err != nil {
		return nil, err
	}
	for _, d := range devicesOf(v) {
		if strconv.Itoa(int(d.GetVirtualDevice().Key)) == t.Part {
			return d, nil
		}
	}
	return nil, fmt.Errorf("NIC %s of %s %w", t.Part, t.Name, ErrGone)
}

func devicesOf(v mo.VirtualMachine) []types.BaseVirtualDevice {
	if v.Config == nil {
		return nil
	}
	return v.Config.Hardware.Device
}
