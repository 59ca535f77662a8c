package vmware

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// sound is a VM that nothing stands against.
func sound() VM {
	return VM{
		Ref: "vm-1", Name: "web01", BIOSUUID: "4205", Power: On, GuestID: "rhel9_64Guest", Hardware: "vmx-19", Host: "esx1", Cluster: "c1",
		Tools: "guestToolsRunning", ToolsKind: "guestToolsCurrent", HostName: "web01.example", Addresses: []string{"192.0.2.1"},
		CBT: true, CBTSupported: true, DiskUUID: true, Partitions: []Partition{{Path: "/", Capacity: 10 << 30, Free: 5 << 30}},
		Disks: []Disk{{Label: "Hard disk 1", Bus: "scsi", Kind: "flat", Mode: "persistent", Size: 10 << 30, Files: []string{"[a] b/c.vmdk"}, Datastore: "a", Reachable: true, ChangeID: "1"}},
		NICs:  []NIC{{Label: "Network adapter 1", Model: "vmxnet3", Network: "VM Network"}},
	}
}

// deep is a line of snapshots.
func deep(n int) []Snapshot {
	s := Snapshot{Ref: fmt.Sprint("snapshot-", n)}
	if n > 1 {
		s.Children = deep(n - 1)
	}
	return []Snapshot{s}
}

// spoils are what each concern is about, done to a VM that is sound.
var spoils = map[string][]func(*VM, *Around){
	"vsphere/inaccessible":     {func(vm *VM, _ *Around) { vm.State = "inaccessible" }},
	"vsphere/template":         {func(vm *VM, _ *Around) { vm.Template = true }},
	"vsphere/suspended":        {func(vm *VM, _ *Around) { vm.Power = Suspended }},
	"vsphere/question":         {func(vm *VM, _ *Around) { vm.Question = "copied or moved?" }},
	"vsphere/busy":             {func(vm *VM, _ *Around) { vm.Tasks = []string{"VirtualMachine.relocate"} }},
	"vsphere/host-unreachable": {func(vm *VM, _ *Around) { vm.HostState = "notResponding" }, func(vm *VM, _ *Around) { vm.HostState = "disconnected" }},
	"vsphere/host-maintenance": {func(vm *VM, _ *Around) { vm.HostState = "maintenance" }},
	"vsphere/duplicate-name":   {func(vm *VM, a *Around) { a.Add(VM{Name: "web01"}) }},
	"vsphere/duplicate-uuid":   {func(vm *VM, a *Around) { a.Add(VM{BIOSUUID: "4205"}) }},
	"vsphere/name":             {func(vm *VM, _ *Around) { vm.Name = "a/b" }, func(vm *VM, _ *Around) { vm.Name = " " }, func(vm *VM, _ *Around) { vm.Name = "-rf" }, func(vm *VM, _ *Around) { vm.Name = strings.Repeat("ü", 101) }},
	"vsphere/managed":          {func(vm *VM, _ *Around) { vm.ManagedBy = "com.vmware.vcIntegrity" }},
	"vsphere/unknown":          {func(vm *VM, _ *Around) { vm.Unknown = []string{"addresses"} }},
	"vsphere/no-disks":         {func(vm *VM, _ *Around) { vm.Disks = nil }},
	"vsphere/rdm":              {func(vm *VM, _ *Around) { vm.Disks[0].Kind = "rdm-physical" }, func(vm *VM, _ *Around) { vm.Disks[0].Kind = "rdm-virtual" }, func(vm *VM, _ *Around) { vm.Disks[0].Kind = "raw" }},
	"vsphere/shared-disk":      {func(vm *VM, _ *Around) { vm.Disks[0].Sharing = "sharingMultiWriter" }, func(vm *VM, _ *Around) { vm.Disks[0].BusSharing = "physical" }},
	"vsphere/independent-disk": {func(vm *VM, _ *Around) { vm.Disks[0].Mode = "independent_persistent" },
		func(vm *VM, a *Around) { vm.Disks[0].Mode, a.Live = "independent_persistent", true }},
	"vsphere/volatile-disk":         {func(vm *VM, _ *Around) { vm.Disks[0].Mode = "nonpersistent" }},
	"vsphere/disk-kind":             {func(vm *VM, _ *Around) { vm.Disks[0].Kind = "" }, func(vm *VM, _ *Around) { vm.Disks[0].Kind = "pmem" }, func(vm *VM, _ *Around) { vm.Disks[0].Bus = "pmem" }},
	"vsphere/encrypted":             {func(vm *VM, _ *Around) { vm.Encrypted = true }, func(vm *VM, _ *Around) { vm.Disks[0].Encrypted = true }},
	"vsphere/datastore-unreachable": {func(vm *VM, _ *Around) { vm.Disks[0].Reachable = false }},
	"vsphere/disk-size":             {func(vm *VM, _ *Around) { vm.Disks[0].Size = 0 }, func(vm *VM, _ *Around) { vm.Disks[0].Size = 513 }},
	"vsphere/disk-count":            {func(vm *VM, _ *Around) { vm.Disks = slices.Repeat(vm.Disks, 257) }},
	"vsphere/io-filter":             {func(vm *VM, _ *Around) { vm.Disks[0].Filters = []string{"vmwarelwd"} }},
	"vsphere/linked-clone":          {func(vm *VM, _ *Around) { vm.Disks[0].LinkedClone = true }},
	"vsphere/disk-uuid":             {func(vm *VM, _ *Around) { vm.DiskUUID = false }},
	"vsphere/passthrough":           {func(vm *VM, _ *Around) { vm.Passthrough = []string{"PCI device 0"} }},
	"vsphere/sriov":                 {func(vm *VM, _ *Around) { vm.NICs[0].Model = "sriov" }},
	"vsphere/usb":                   {func(vm *VM, _ *Around) { vm.USB = true }},
	"vsphere/tpm":                   {func(vm *VM, _ *Around) { vm.TPM = true }},
	"vsphere/fault-tolerance":       {func(vm *VM, _ *Around) { vm.FaultTolerance = true }},
	"vsphere/old-hardware":          {func(vm *VM, _ *Around) { vm.Hardware = "vmx-04" }},
	"vsphere/hot-add":               {func(vm *VM, _ *Around) { vm.HotAddCPU = true }, func(vm *VM, _ *Around) { vm.HotAddMemory = true }},
	"vsphere/cpu-affinity":          {func(vm *VM, _ *Around) { vm.CPUAffinity = true }},
	"vsphere/numa-affinity":         {func(vm *VM, _ *Around) { vm.NUMAAffinity = true }},
	"vsphere/no-network":            {func(vm *VM, _ *Around) { vm.NICs[0].Network = "" }},
	"vsphere/nic-model":             {func(vm *VM, _ *Around) { vm.NICs[0].Model = "" }},
	"vsphere/too-many-snapshots":    {func(vm *VM, _ *Around) { vm.Snapshots, vm.Snapshot = deep(29), "snapshot-1" }},
	"vsphere/snapshots":             {func(vm *VM, _ *Around) { vm.Snapshots, vm.Snapshot = deep(28), "snapshot-1" }},
	"vsphere/consolidation":         {func(vm *VM, _ *Around) { vm.Consolidate = true }},
	"vsphere/cbt-impossible":        {func(vm *VM, _ *Around) { vm.CBT, vm.CBTSupported = false, false }, func(vm *VM, _ *Around) { vm.Hardware = "vmx-06" }},
	"vsphere/cbt-off":               {func(vm *VM, _ *Around) { vm.CBT = false }},
	"vsphere/cbt-snapshots":         {func(vm *VM, _ *Around) { vm.CBT, vm.Snapshots = false, deep(1) }},
	"vsphere/cbt-disk":              {func(vm *VM, _ *Around) { vm.Disks[0].ChangeID = "" }},
	"vsphere/unsupported-guest":     {func(vm *VM, _ *Around) { vm.GuestID = "solaris11_64Guest" }, func(vm *VM, _ *Around) { vm.GuestID = "otherGuest" }, func(vm *VM, _ *Around) { vm.GuestID = "winXPProGuest" }},
	"vsphere/no-tools":              {func(vm *VM, _ *Around) { vm.Tools, vm.ToolsKind = "guestToolsNotRunning", "guestToolsNotInstalled" }},
	"vsphere/tools-not-running":     {func(vm *VM, _ *Around) { vm.Tools = "guestToolsNotRunning" }},
	"vsphere/guest-space":           {func(vm *VM, _ *Around) { vm.Partitions[0].Free = 20 << 20 }, func(vm *VM, _ *Around) { vm.Partitions[0] = Partition{`C:\`, 1 << 30, 0, "NTFS"} }},
	"vsphere/no-address":            {func(vm *VM, _ *Around) { vm.Addresses = nil }},
	"vsphere/hostname":              {func(vm *VM, _ *Around) { vm.HostName = "localhost.localdomain" }, func(vm *VM, _ *Around) { vm.HostName = "" }},
	"vsphere/drs":                   {func(vm *VM, _ *Around) { vm.ClusterDRS = "fullyAutomated" }},
	"vsphere/dpm":                   {func(vm *VM, _ *Around) { vm.ClusterDPM = true }},
	"vsphere/affinity":              {func(vm *VM, _ *Around) { vm.Rules = []string{"keep apart"} }},
}

func codesOf(list []Concern) (codes []string) {
	for _, c := range list {
		codes = append(codes, c.Code)
	}
	return codes
}

func TestNothingStandsAgainstASoundVM(t *testing.T) {
	vm, a := sound(), Around{}
	a.Add(vm)
	if list := Concerns(vm, a); len(list) > 0 {
		t.Errorf("Concerns = %+v", list)
	}
	vm.Partitions = append(vm.Partitions, Partition{Path: "/proc", Capacity: 1}, Partition{Path: "/mnt/iso", Capacity: 600 << 20})
	vm.GuestID, vm.Power, vm.Tools = "rhel8_64Guest", Off, "guestToolsNotRunning"
	vm.Disks[0].ChangeID, vm.Addresses, vm.HostName = "", nil, ""
	if list := Concerns(vm, a); len(list) > 0 {
		t.Errorf("off: %+v", list)
	}
}

func TestAGuestThatPlanRefusesIsNoSoundVM(t *testing.T) {
	for _, id := range []string{"windows2019srv_64Guest", "winLonghorn64Guest", "solaris11_64Guest", "freebsd13_64Guest"} {
		vm := sound()
		vm.GuestID = id
		if got := codesOf(Concerns(vm, Around{})); !slices.Contains(got, "vsphere/unsupported-guest") {
			t.Errorf("%s: %q", id, got)
		}
	}
}

func TestEveryConcernIsRaisedByWhatItIsAboutAndByNothingElse(t *testing.T) {
	// of some, others follow
	follows := map[string][]string{
		"vsphere/rdm": {"vsphere/cbt-disk"}, "vsphere/old-hardware": {"vsphere/cbt-impossible"}, "vsphere/cbt-impossible": {"vsphere/old-hardware"},
		"vsphere/too-many-snapshots": {"vsphere/snapshots"}, "vsphere/cbt-snapshots": {"vsphere/snapshots", "vsphere/cbt-off"},
	}
	for _, code := range Codes() {
		if len(spoils[code]) == 0 {
			t.Errorf("%s is not tested", code)
		}
		for i, spoil := range spoils[code] {
			vm, a := sound(), Around{}
			a.Add(vm)
			spoil(&vm, &a)
			list := Concerns(vm, a)
			got := codesOf(list)
			if !slices.Contains(got, code) {
				t.Errorf("%s, %d: got %q", code, i, got)
			}
			for _, other := range got {
				if other != code && !slices.Contains(follows[code], other) {
					t.Errorf("%s, %d: %s is raised too", code, i, other)
				}
			}
			for _, c := range list {
				if c.Text == "" || c.Try == "" || c.Level == "" {
					t.Errorf("%s says nothing: %+v", code, c)
				}
			}
		}
	}
	for code := range spoils {
		if !slices.Contains(Codes(), code) {
			t.Errorf("there is no %s", code)
		}
	}
}

// No snapshot holds an independent disk: what is read of it while its VM runs is no disk
// that ever was.
func TestAnIndependentDiskIsNotReadWhileItsVMRuns(t *testing.T) {
	for _, c := range []struct {
		live  bool
		power Power
		want  Level
	}{{true, On, Blocker}, {true, Off, Warning}, {false, On, Warning}, {false, Off, Warning}} {
		vm := sound()
		vm.Power, vm.Disks[0].Mode = c.power, "independent_persistent"
		list := Concerns(vm, Around{Live: c.live})
		if n := slices.IndexFunc(list, func(c Concern) bool { return c.Code == "vsphere/independent-disk" }); n < 0 || list[n].Level != c.want {
			t.Errorf("live %v, and the VM is %s: %+v, want one %s", c.live, c.power, list, c.want)
		}
	}
}

func TestTheGravestConcernIsFirst(t *testing.T) {
	vm := sound()
	vm.HotAddCPU, vm.USB, vm.Encrypted = true, true, true
	got := codesOf(Concerns(vm, Around{}))
	if want := []string{"vsphere/encrypted", "vsphere/usb", "vsphere/hot-add"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Forklift's rules, and where what they see is seen here. Those of its own targets and
// of its own reading of guests have no place in a VM's record.
//
// Source: Forklift, validation/policies/io/konveyor/forklift/vmware/*.rego.
func TestWhatForkliftSeesIsSeen(t *testing.T) {
	for id, code := range map[string]string{
		"changed_block_tracking.disabled": "vsphere/cbt-off", "changed_block_tracking.disk.disabled": "vsphere/cbt-disk", "consolidation_needed": "vsphere/consolidation",
		"cpu_affinity": "vsphere/cpu-affinity", "cpu_memory.hotplug": "vsphere/hot-add", "datastore.missing": "vsphere/datastore-unreachable", "device.sriov": "vsphere/sriov",
		"disk.capacity.invalid": "vsphere/disk-size", "disk.count.exceeds.limit": "vsphere/disk-count", "disk.rdm": "vsphere/rdm", "disk.shared": "vsphere/shared-disk",
		"disk_mode.independent": "vsphere/independent-disk", "dpm": "vsphere/dpm", "drs": "vsphere/drs", "fault_tolerance": "vsphere/fault-tolerance",
		"guestDisks.freespace": "vsphere/guest-space", "host_affinity": "vsphere/affinity", "hostname.default": "vsphere/hostname", "hostname.empty": "vsphere/hostname",
		"numa_affinity": "vsphere/numa-affinity", "os.unsupported": "vsphere/unsupported-guest", "passthrough_device": "vsphere/passthrough", "snapshot": "vsphere/snapshots",
		"tpm": "vsphere/tpm", "usb_controller": "vsphere/usb", "vm.name.invalid": "vsphere/name", "vm_missing_ip": "vsphere/no-address",
	} {
		if !slices.Contains(Codes(), code) {
			t.Errorf("Forklift's %s: there is no %s", id, code)
		}
	}
}

// What stands against VMs is seen in what a server says of them, and not only in
// records that a test wrote.
func TestConcernsComeFromTheServer(t *testing.T) {
	l := serve(t, simulator.VPX())
	vm := l.vm(t, "DC0_C0_RP0_VM0")
	fitted(t, l, vm)
	vm.Config.Template, vm.Config.CpuHotAddEnabled, vm.Config.KeyId = true, types.NewBool(true), &types.CryptoKeyId{}
	vm.Config.CpuAffinity = &types.VirtualMachineAffinityInfo{AffinitySet: []int32{1}}
	vm.Config.ManagedBy = &types.ManagedByInfo{ExtensionKey: "com.vmware.vim.eam"}
	vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, &types.VirtualUSB{}, &types.VirtualSriovEthernetCard{})
	vm.Runtime.ConsolidationNeeded, vm.Runtime.FaultToleranceState = true, types.VirtualMachineFaultToleranceStateRunning
	vm.Runtime.ConnectionState, vm.Runtime.Question = types.VirtualMachineConnectionStateInaccessible, &types.VirtualMachineQuestionInfo{Text: "?"}
	vm.Guest = &types.GuestInfo{ToolsRunningStatus: "guestToolsRunning", HostName: "localhost", Disk: []types.GuestDiskInfo{{DiskPath: "/boot", Capacity: 1 << 30, FreeSpace: 1}}}
	host := l.model.Map().Get(*vm.Runtime.Host).(*simulator.HostSystem)
	host.Runtime.InMaintenanceMode = true
	l.model.Map().Get(l.object(t, "Datastore", "LocalDS_0")).(*simulator.Datastore).Summary.Accessible = false
	cluster := l.model.Map().Get(*host.Parent).(*simulator.ClusterComputeResource)
	cluster.ConfigurationEx.(*types.ClusterConfigInfoEx).DrsConfig = types.ClusterDrsConfigInfo{Enabled: types.NewBool(true), DefaultVmBehavior: types.DrsBehaviorFullyAutomated}
	cluster.ConfigurationEx.(*types.ClusterConfigInfoEx).DpmConfigInfo = &types.ClusterDpmConfigInfo{Enabled: types.NewBool(true)}
	cluster.ConfigurationEx.(*types.ClusterConfigInfoEx).Rule = []types.BaseClusterRuleInfo{&types.ClusterAntiAffinityRuleSpec{ClusterRuleInfo: types.ClusterRuleInfo{Name: "apart"}, Vm: []ref{vm.Self}}}
	task := new(simulator.Task)
	task.Self = ref{Type: "Task", Value: "task-77"}
	task.Info = types.TaskInfo{Entity: &vm.Self, State: types.TaskInfoStateRunning, DescriptionId: "VirtualMachine.relocate"}
	l.model.Map().Put(task)
	manager := l.model.Map().Get(*l.client.ServiceContent.TaskManager).(*simulator.TaskManager)
	manager.RecentTask = append(manager.RecentTask, task.Self)
	want := []string{
		"vsphere/affinity", "vsphere/busy", "vsphere/cbt-off", "vsphere/cbt-snapshots", "vsphere/consolidation", "vsphere/cpu-affinity", "vsphere/datastore-unreachable", "vsphere/disk-kind",
		"vsphere/dpm", "vsphere/drs", "vsphere/encrypted", "vsphere/fault-tolerance", "vsphere/guest-space", "vsphere/host-maintenance", "vsphere/hostname", "vsphere/hot-add", "vsphere/inaccessible",
		"vsphere/independent-disk", "vsphere/linked-clone", "vsphere/managed", "vsphere/no-address", "vsphere/no-network", "vsphere/passthrough", "vsphere/question", "vsphere/rdm", "vsphere/shared-disk",
		"vsphere/snapshots", "vsphere/sriov", "vsphere/template", "vsphere/tpm", "vsphere/usb", "vsphere/volatile-disk",
	}
	read, err := l.One(t.Context(), "DC0_C0_RP0_VM0")
	if err != nil {
		t.Fatal(err)
	}
	got := codesOf(Concerns(read, Around{}))
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("Concerns = %q\nwant %q", got, want)
	}
}
