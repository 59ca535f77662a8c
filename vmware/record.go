package vmware

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline/machine"
)

// recorded are the properties of a VM that its record is made of. Settings of its VMX
// file are asked for one by one: all of them are several times what is needed.
//
// Source: vSphere Web Services API, VirtualMachine; OpenStack Nova asks vCenters for
// config.extraConfig["nvp.vm-uuid"] in this way, and what is not set is left out.
var recorded = slices.Concat([]string{
	"name", "parent", "parentVApp", "resourcePool", "snapshot", "layoutEx.disk", "layoutEx.file",
	"summary.storage", "capability.changeTrackingSupported",
	"config.uuid", "config.instanceUuid", "config.template", "config.annotation", "config.files.vmPathName", "config.managedBy",
	"config.guestId", "config.guestFullName", "config.version", "config.firmware", "config.bootOptions", "config.keyId", "config.flags",
	"config.hardware.numCPU", "config.hardware.numCoresPerSocket", "config.hardware.memoryMB", "config.hardware.device",
	"config.cpuHotAddEnabled", "config.memoryHotAddEnabled", "config.cpuAffinity", "config.changeTrackingEnabled",
	"guest.toolsRunningStatus", "guest.toolsVersionStatus2", "guest.hostName", "guest.guestFullName", "guest.net", "guest.disk",
	"runtime.host", "runtime.powerState", "runtime.connectionState", "runtime.consolidationNeeded", "runtime.faultToleranceState", "runtime.question",
}, extraPaths())

// extraPaths are the paths of those of the VMX file.
func extraPaths() []string {
	paths := []string{extraPath("disk.EnableUUID"), extraPath("disk.enableUUID"), extraPath("numa.nodeAffinity")}
	for n := range 10 { // Source: VMware Configuration Maximums, vSphere 8: ten network cards
		paths = append(paths, extraPath(slotKey(n)))
	}
	return paths
}

func extraPath(key string) string { return fmt.Sprintf("config.extraConfig[%q]", key) }

func slotKey(n int) string { return fmt.Sprintf("ethernet%d.pciSlotNumber", n) }

// record is a VM from what the server answered.
func record(o types.ObjectContent, p *places) (VM, error) {
	extra, unknown := map[string]string{}, []string{}
	for _, missing := range o.MissingSet {
		unknown = append(unknown, missing.Path)
	}
	o.MissingSet = nil
	o.PropSet = slices.DeleteFunc(slices.Clone(o.PropSet), func(d types.DynamicProperty) bool {
		option, ok := d.Val.(types.OptionValue)
		if ok {
			extra[option.Key] = fmt.Sprint(option.Value)
		}
		return ok || strings.HasPrefix(d.Name, "config.extraConfig[")
	})
	var m mo.VirtualMachine
	if err := mo.LoadObjectContent([]types.ObjectContent{o}, &m); err != nil {
		return VM{}, err
	}
	if m.Config == nil {
		m.Config, unknown = &types.VirtualMachineConfigInfo{}, append(unknown, "config")
	}
	vm := VM{Ref: o.Obj.Value, Name: unescaped(m.Name), Unknown: slices.Compact(slices.Sorted(slices.Values(unknown)))}
	vm.place(m, p)
	vm.configured(m, extra)
	vm.reported(m.Guest)
	vm.state(m, p.tasks[o.Obj])
	vm.Rules = p.rules[o.Obj]
	vm.Snapshots, vm.Snapshot = snapshots(m.Snapshot)
	vm.devices(m, extra, p)
	return vm, nil
}

// place notes where a VM is.
func (vm *VM) place(m mo.VirtualMachine, p *places) {
	in := m.Parent
	if in == nil {
		in = m.ParentVApp
	}
	if in != nil {
		vm.Path, vm.Datacenter = p.path(*in, m.Name), p.datacenter(*in)
	}
	vm.Pool = p.name(m.ResourcePool)
	if host := m.Runtime.Host; host != nil {
		vm.Host, vm.HostRef, vm.HostState = p.name(host), host.Value, p.of[*host].state
		if c, ok := p.cluster(*host); ok {
			vm.Cluster, vm.ClusterDRS, vm.ClusterDPM = unescaped(c.name), c.drs, c.dpm
		}
	}
}

// firmwares are VMware's.
var firmwares = map[string]machine.Firmware{"bios": machine.BIOS, "efi": machine.UEFI}

// configured notes what a VM is set to be.
func (vm *VM) configured(m mo.VirtualMachine, extra map[string]string) {
	c := m.Config
	vm.BIOSUUID, vm.InstanceUUID = strings.ToLower(c.Uuid), strings.ToLower(c.InstanceUuid)
	vm.Template, vm.Annotation, vm.VMX = c.Template, c.Annotation, c.Files.VmPathName
	vm.GuestID, vm.GuestName, vm.Hardware = c.GuestId, c.GuestFullName, c.Version
	vm.Firmware, vm.Encrypted = firmwares[c.Firmware], c.KeyId != nil
	vm.SecureBoot = c.BootOptions != nil && yes(c.BootOptions.EfiSecureBootEnabled)
	vm.CPUs = int(c.Hardware.NumCPU)
	if n := c.Hardware.NumCoresPerSocket; n != nil {
		vm.CoresPerSocket = int(*n) // 0: as the host thinks best
	}
	vm.Memory = int64(c.Hardware.MemoryMB) << 20
	vm.HotAddCPU, vm.HotAddMemory = yes(c.CpuHotAddEnabled), yes(c.MemoryHotAddEnabled)
	vm.CPUAffinity = c.CpuAffinity != nil && len(c.CpuAffinity.AffinitySet) > 0
	vm.NUMAAffinity = extra["numa.nodeAffinity"] != ""
	vm.CBT, vm.CBTSupported = yes(c.ChangeTrackingEnabled), m.Capability.ChangeTrackingSupported
	vm.DiskUUID = yes(c.Flags.DiskUuidEnabled) || strings.EqualFold(cmp.Or(extra["disk.EnableUUID"], extra["disk.enableUUID"]), "true")
	if c.ManagedBy != nil {
		vm.ManagedBy = c.ManagedBy.ExtensionKey
	}
}

// reported notes what a VM's tools say.
func (vm *VM) reported(g *types.GuestInfo) {
	if g == nil {
		return
	}
	vm.Tools, vm.ToolsKind, vm.HostName = g.ToolsRunningStatus, g.ToolsVersionStatus2, g.HostName
	vm.GuestName = cmp.Or(g.GuestFullName, vm.GuestName)
	seen := map[string]bool{}
	for _, n := range g.Net {
		for _, a := range n.IpAddress {
			seen[a] = true
		}
	}
	vm.Addresses = slices.Sorted(maps.Keys(seen))
	for _, d := range g.Disk {
		fs := Partition{Path: d.DiskPath, Capacity: d.Capacity, Free: d.FreeSpace, FS: d.FilesystemType}
		vm.Partitions = append(vm.Partitions, fs)
	}
}

// powerStates are VMware's.
var powerStates = map[types.VirtualMachinePowerState]Power{
	types.VirtualMachinePowerStatePoweredOn:  On,
	types.VirtualMachinePowerStatePoweredOff: Off,
	types.VirtualMachinePowerStateSuspended:  Suspended,
}

// state notes what a VM is in the midst of.
func (vm *VM) state(m mo.VirtualMachine, tasks []string) {
	r := m.Runtime
	vm.Power, vm.Tasks = powerStates[r.PowerState], tasks
	if r.ConnectionState != types.VirtualMachineConnectionStateConnected {
		vm.State = string(r.ConnectionState)
	}
	vm.Consolidate = r.ConsolidationNeeded
	vm.FaultTolerance = r.FaultToleranceState != "" && r.FaultToleranceState != types.VirtualMachineFaultToleranceStateNotConfigured
	if r.Question != nil {
		vm.Question = r.Question.Text
	}
	if s := m.Summary.Storage; s != nil {
		vm.Used, vm.Unshared = s.Committed, s.Unshared
	}
}

func yes(b *bool) bool { return b != nil && *b }

// snapshots are a VM's tree of them.
func snapshots(s *types.VirtualMachineSnapshotInfo) (tree []Snapshot, current string) {
	if s == nil {
		return nil, ""
	}
	if s.CurrentSnapshot != nil {
		current = s.CurrentSnapshot.Value
	}
	return snapshotTree(s.RootSnapshotList, deepest), current
}

func snapshotTree(list []types.VirtualMachineSnapshotTree, depth int) (tree []Snapshot) {
	if depth == 0 {
		return nil
	}
	for _, s := range list {
		tree = append(tree, Snapshot{Ref: s.Snapshot.Value, Name: unescaped(s.Name), Text: s.Description, Created: s.CreateTime, Children: snapshotTree(s.ChildSnapshotList, depth-1)})
	}
	return tree
}

// line are the snapshots from the root down to one.
func line(tree []Snapshot, current string) []Snapshot {
	for _, s := range tree {
		if s.Ref == current {
			return []Snapshot{s}
		}
		if below := line(s.Children, current); below != nil {
			return append([]Snapshot{s}, below...)
		}
	}
	return nil
}
