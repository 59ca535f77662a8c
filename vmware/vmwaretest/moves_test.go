package vmwaretest_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

// attach adds a disk that is there to a VM.
func attach(t *testing.T, c *govmomi.Client, vm types.ManagedObjectReference, path, mode string) error {
	t.Helper()
	ctx := context.Background()
	machine := object.NewVirtualMachine(c.Client, vm)
	devices, err := machine.Device(ctx)
	if err != nil {
		t.Fatal(err)
	}
	controller, err := devices.FindDiskController("")
	if err != nil {
		t.Fatal(err)
	}
	d := devices.CreateDisk(controller, types.ManagedObjectReference{}, path)
	b := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	b.DiskMode, b.ThinProvisioned, b.Datastore = mode, nil, nil
	devices.AssignController(d, controller)
	task, err := machine.Reconfigure(ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: d}}})
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

// detach takes a disk away from a VM.
func detach(t *testing.T, c *govmomi.Client, vm types.ManagedObjectReference, path string, keep bool) error {
	t.Helper()
	machine := object.NewVirtualMachine(c.Client, vm)
	devices, err := machine.Device(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		if d.(*types.VirtualDisk).Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName == path {
			return machine.RemoveDevice(context.Background(), keep, d)
		}
	}
	t.Fatalf("%s has no disk %s", vm.Value, path)
	return nil
}

func TestAFrozenDiskGoesToTheApplianceAndComesBackWhole(t *testing.T) {
	var came, went []vmwaretest.Attachment
	s := vmwaretest.Start(t, vmwaretest.Options{})
	s.OnAttach = func(a vmwaretest.Attachment) { came = append(came, a) }
	s.OnDetach = func(a vmwaretest.Attachment) { went = append(went, a) }
	c := logIn(t, s, s.User, s.Password)
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Raw: raw}}})
	appliance := s.AddVM(t, vmwaretest.VM{Name: "appliance", On: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	if err := attach(t, c, appliance.Ref, v.Disks[0].Path, "independent_nonpersistent"); !fault.Is(err, &types.FileLocked{}) {
		t.Errorf("attach the disk that a running VM writes to: %v", err)
	}
	ref := snapshot(t, c, v.Ref, "ours")
	if err := attach(t, c, appliance.Ref, v.Disks[0].Path, "persistent"); !fault.Is(err, &types.FileLocked{}) {
		t.Errorf("attach the base of a running VM to write to it: %v", err)
	}
	if err := attach(t, c, appliance.Ref, v.Disks[0].Path, "independent_nonpersistent"); err != nil {
		t.Fatal(err)
	}
	if len(came) != 1 || came[0].UUID != v.Disks[0].UUID || came[0].VM != appliance.Ref {
		t.Fatalf("came: %+v", came)
	}
	sameBytes(t, "what came", came[0].Raw, content)
	if want := "[datastore1] web01/web01.vmdk of web01 is attached to appliance"; !slices.Contains(s.Leaks(), want) {
		t.Errorf("the leaks are %q, want among them %q", s.Leaks(), want)
	}

	task, err := removal(c, ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Wait(context.Background()); !fault.Is(err, &types.FileLocked{}) {
		t.Errorf("remove the snapshot while its disk is attached: %v", err)
	}
	if !slices.Contains(s.Leaks(), "web01 needs consolidation") {
		t.Errorf("the leaks are %q", s.Leaks())
	}
	if err := detach(t, c, appliance.Ref, v.Disks[0].Path, true); err != nil {
		t.Fatal(err)
	}
	if len(went) != 1 || went[0].UUID != v.Disks[0].UUID {
		t.Errorf("went: %+v", went)
	}
	consolidate(t, c, v.Ref)
	sameBytes(t, "the disk afterwards", s.RawOf(t, v.Disks[0].Path), content)
	if err := c.Logout(context.Background()); err != nil {
		t.Fatal(err)
	}
	if leaks := s.Leaks(); len(leaks) > 0 {
		t.Errorf("the leaks are %q", leaks)
	}
}

func removal(c *govmomi.Client, ref types.ManagedObjectReference) (*object.Task, error) {
	response, err := methods.RemoveSnapshot_Task(context.Background(), c, &types.RemoveSnapshot_Task{This: ref})
	if err != nil {
		return nil, err
	}
	return object.NewTask(c.Client, response.Returnval), nil
}

func consolidate(t *testing.T, c *govmomi.Client, vm types.ManagedObjectReference) {
	t.Helper()
	response, err := methods.ConsolidateVMDisks_Task(context.Background(), c, &types.ConsolidateVMDisks_Task{This: vm})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, object.NewTask(c.Client, response.Returnval), nil)
}

func TestADiskIsDestroyedOnlyWhereThatIsAskedForAndThenIsMissed(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	appliance := s.AddVM(t, vmwaretest.VM{Name: "appliance", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	file := s.RawOf(t, v.Disks[0].Path)
	for _, keep := range []bool{true, false} {
		if err := attach(t, c, appliance.Ref, v.Disks[0].Path, "persistent"); err != nil {
			t.Fatal(err)
		}
		if err := detach(t, c, appliance.Ref, v.Disks[0].Path, keep); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) == keep {
			t.Errorf("detached with keep=%v: %v", keep, err)
		}
	}
	if want := "[datastore1] web01/web01.vmdk of web01 is gone"; !slices.Contains(s.Leaks(), want) {
		t.Errorf("the leaks are %q, want among them %q", s.Leaks(), want)
	}
}

// cloned makes a clone of a snapshot.
func cloned(t *testing.T, s *vmwaretest.Server, c *govmomi.Client, v vmwaretest.VM, snapshot *types.ManagedObjectReference, move, name string) types.ManagedObjectReference {
	t.Helper()
	var m mo.VirtualMachine
	properties(t, c, v.Ref, &m, "parent", "resourcePool")
	task, err := object.NewVirtualMachine(c.Client, v.Ref).Clone(context.Background(), object.NewFolder(c.Client, *m.Parent), name,
		types.VirtualMachineCloneSpec{Snapshot: snapshot, Location: types.VirtualMachineRelocateSpec{Pool: m.ResourcePool, DiskMoveType: move}})
	return wait(t, task, err).Result.(types.ManagedObjectReference)
}

func TestALinkedCloneStandsOnItsSnapshot(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web/01", On: true, Disks: []vmwaretest.Disk{{Raw: raw}}})
	key := v.Disks[0].Key
	ref := snapshot(t, c, v.Ref, "ours")
	s.GuestWrite(t, v.Ref, key, 0, []byte("later"))
	clone := cloned(t, s, c, v, &ref, "createNewChildDiskBacking", "ours of web/01")
	var m mo.VirtualMachine
	properties(t, c, clone, &m, "name")
	disk := diskIn(t, c, clone, key)
	if m.Name != "ours of web%2f01" || disk.Parent == nil || disk.Parent.FileName != v.Disks[0].Path || disk.Uuid == v.Disks[0].UUID {
		t.Errorf("%s stands on %+v, its parent %+v", m.Name, disk, disk.Parent)
	}
	sameBytes(t, "the clone", s.Raw(t, clone, key), content)
	if !slices.Contains(s.Leaks(), "the VM ours of web%2f01") {
		t.Errorf("the leaks are %q", s.Leaks())
	}
	task, err := removal(c, ref)
	if err == nil {
		err = task.Wait(context.Background())
	}
	if !fault.Is(err, &types.FileLocked{}) {
		t.Errorf("remove the snapshot that a clone stands on: %v", err)
	}
	task, err = object.NewVirtualMachine(c.Client, clone).Destroy(context.Background())
	wait(t, task, err)
	consolidate(t, c, v.Ref)
	copy(content, "later")
	sameBytes(t, "the disk afterwards", s.RawOf(t, v.Disks[0].Path), content)
}

func TestAChildDiskIsMadeOnAFrozenOne(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", On: true, Disks: []vmwaretest.Disk{{Raw: raw}}})
	appliance := s.AddVM(t, vmwaretest.VM{Name: "appliance", On: true, Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	snapshot(t, c, v.Ref, "ours")
	s.GuestWrite(t, v.Ref, v.Disks[0].Key, 0, []byte("later"))
	const child = "[datastore1] appliance/of-web01.vmdk"
	unit := int32(5)
	d := &types.VirtualDisk{CapacityInKB: 1 << 10, VirtualDevice: types.VirtualDevice{Key: -1, ControllerKey: 1000, UnitNumber: &unit,
		Backing: &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: child}, DiskMode: "persistent",
			Parent: &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: v.Disks[0].Path}}}}}
	machine := object.NewVirtualMachine(c.Client, appliance.Ref)
	task, err := machine.Reconfigure(context.Background(), types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{
		&types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate, Device: d}}})
	wait(t, task, err)
	sameBytes(t, "the child", s.RawOf(t, child), content)
	if err := detach(t, c, appliance.Ref, child, false); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, "the base", s.RawOf(t, v.Disks[0].Path), content)
	if leaks := s.Leaks(); slices.ContainsFunc(leaks, func(l string) bool { return strings.Contains(l, "gone") || strings.Contains(l, "attached") }) {
		t.Errorf("the leaks are %q", leaks)
	}
}

func TestAVMIsRenamedWhereverItHasAName(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01"})
	s.AddVM(t, vmwaretest.VM{Name: "taken"})
	vm := object.NewVirtualMachine(c.Client, v.Ref)
	task, err := vm.Rename(context.Background(), "web01 (moved/1)")
	wait(t, task, err)
	var m mo.VirtualMachine
	properties(t, c, v.Ref, &m, "name", "config.name", "summary.config.name")
	if want := "web01 (moved%2f1)"; m.Name != want || m.Config.Name != want || m.Summary.Config.Name != want {
		t.Errorf("the names are %q, %q, %q", m.Name, m.Config.Name, m.Summary.Config.Name)
	}
	task, err = vm.Rename(context.Background(), "taken")
	if err == nil {
		err = task.Wait(context.Background())
	}
	if !fault.Is(err, &types.DuplicateName{}) {
		t.Errorf("a name that is taken: %v", err)
	}
}

func TestAFullCloneHasItsOwnBytes(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
	clone := cloned(t, s, c, v, nil, "", "copy")
	s.GuestWrite(t, v.Ref, v.Disks[0].Key, 0, []byte("later"))
	sameBytes(t, "the clone", s.Raw(t, clone, v.Disks[0].Key), content)
}

func TestDestroyingAVMTakesTheDisksThatAreAttachedToIt(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	appliance := s.AddVM(t, vmwaretest.VM{Name: "appliance", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	if err := attach(t, c, appliance.Ref, v.Disks[0].Path, "persistent"); err != nil {
		t.Fatal(err)
	}
	task, err := object.NewVirtualMachine(c.Client, appliance.Ref).Destroy(context.Background())
	wait(t, task, err)
	if want := "[datastore1] web01/web01.vmdk of web01 is gone"; !slices.Contains(s.Leaks(), want) {
		t.Errorf("the leaks are %q, want among them %q", s.Leaks(), want)
	}
}

func TestAGuestShutsDownInItsTimeOrNever(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	ctx := context.Background()
	off := func(v vmwaretest.VM, within time.Duration) error {
		vm := object.NewVirtualMachine(c.Client, v.Ref)
		if err := vm.ShutdownGuest(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		return vm.WaitForPowerState(ctx, types.VirtualMachinePowerStatePoweredOff)
	}
	takes := s.AddVM(t, vmwaretest.VM{Name: "takes", On: true, ShutdownTakes: 200 * time.Millisecond})
	if err := off(takes, 10*time.Second); err != nil {
		t.Error("takes its time: ", err)
	}
	if err := off(takes, time.Second); !fault.Is(err, &types.InvalidPowerState{}) {
		t.Error("is off: ", err)
	}
	never := s.AddVM(t, vmwaretest.VM{Name: "never", On: true, IgnoresShutdown: true})
	if err := off(never, 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("never: ", err)
	}
	deaf := s.AddVM(t, vmwaretest.VM{Name: "deaf", On: true, NoTools: true})
	if err := off(deaf, time.Second); !fault.Is(err, &types.ToolsUnavailable{}) {
		t.Error("without tools: ", err)
	}
}

func TestAHostInMaintenanceStartsNothing(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Host: "DC0_C0_H1"})
	s.Maintenance("DC0_C0_H1", true)
	task, err := object.NewVirtualMachine(c.Client, v.Ref).PowerOn(context.Background())
	if err == nil {
		err = task.Wait(context.Background())
	}
	if !fault.Is(err, &types.InvalidState{}) {
		t.Errorf("power on in maintenance: %v", err)
	}
	s.Maintenance("DC0_C0_H1", false)
	task, err = object.NewVirtualMachine(c.Client, v.Ref).PowerOn(context.Background())
	wait(t, task, err)
}

func TestTenThousandVMsAreThereAtOnce(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web", Disks: []vmwaretest.Disk{{Size: 1 << 20}}, NICs: []vmwaretest.NIC{{}}})
	begun := time.Now()
	refs := s.AddMany(t, v, 10_000)
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	var all []mo.VirtualMachine
	pc := property.DefaultCollector(c.Client)
	if err := pc.Retrieve(context.Background(), refs[9_998:], []string{"name", "config.hardware.device", "summary.config.uuid"}, &all); err != nil {
		t.Fatal(err)
	}
	names := []string{all[0].Name, all[1].Name}
	slices.Sort(names)
	if !slices.Equal(names, []string{"web-009999", "web-010000"}) || all[0].Summary.Config.Uuid == all[1].Summary.Config.Uuid {
		t.Errorf("the last are %q", names)
	}
	one, other := diskIn(t, c, refs[0], v.Disks[0].Key), diskIn(t, c, refs[1], v.Disks[0].Key)
	if one.FileName == other.FileName || one.Uuid == other.Uuid {
		t.Errorf("two have the same disk %s", one.FileName)
	}
}
