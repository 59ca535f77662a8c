package vmwaretest

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// need is a privilege on an object.
type need struct {
	on        types.ManagedObjectReference
	privilege string
}

// ofVM are methods of VMs that need one privilege on the VM.
//
// Source: vSphere Web Services API, "Required Privileges" of each method.
var ofVM = map[string]string{
	"CreateSnapshot_Task":          "VirtualMachine.State.CreateSnapshot",
	"CreateSnapshotEx_Task":        "VirtualMachine.State.CreateSnapshot",
	"RemoveAllSnapshots_Task":      "VirtualMachine.State.RemoveSnapshot",
	"ConsolidateVMDisks_Task":      "VirtualMachine.State.RemoveSnapshot",
	"RevertToCurrentSnapshot_Task": "VirtualMachine.State.RevertToSnapshot",
	"QueryChangedDiskAreas":        "VirtualMachine.Provisioning.DiskRandomRead",
	"PowerOnVM_Task":               "VirtualMachine.Interact.PowerOn",
	"PowerOffVM_Task":              "VirtualMachine.Interact.PowerOff",
	"ShutdownGuest":                "VirtualMachine.Interact.PowerOff",
	"Rename_Task":                  "VirtualMachine.Config.Rename",
	"Destroy_Task":                 "VirtualMachine.Inventory.Delete",
	"UnregisterVM":                 "VirtualMachine.Inventory.Unregister",
	"ExportVm":                     "VApp.Export",
}

// ofSnapshots are methods of snapshots that need one privilege on their VM.
var ofSnapshots = map[string]string{
	"RemoveSnapshot_Task":   "VirtualMachine.State.RemoveSnapshot",
	"RevertToSnapshot_Task": "VirtualMachine.State.RevertToSnapshot",
	"RenameSnapshot":        "VirtualMachine.State.RenameSnapshot",
	"ExportSnapshot":        "VApp.Export",
}

// denied is what the caller lacks for a call; nil if nothing.
func (s *Server) denied(ctx *simulator.Context, m *simulator.Method) *types.NoPermission {
	for _, n := range s.needs(ctx, m) {
		if !s.may(ctx.Session.UserName, n.on, n.privilege) {
			return &types.NoPermission{Object: &n.on, PrivilegeId: n.privilege}
		}
	}
	return nil
}

// needs are what a call needs.
func (s *Server) needs(ctx *simulator.Context, m *simulator.Method) []need {
	switch r := m.Body.(type) {
	case *types.ReconfigVM_Task:
		return reconfigureNeeds(r)
	case *types.CloneVM_Task:
		return cloneNeeds(r)
	case *types.MoveIntoFolder_Task:
		return moveNeeds(r)
	case *types.TerminateSession:
		return []need{{s.Client.ServiceContent.RootFolder, "Sessions.TerminateSession"}}
	}
	switch o := ctx.Map.Get(m.This).(type) {
	case *simulator.VirtualMachine:
		return single(m.This, ofVM[m.Name])
	case *simulator.VirtualMachineSnapshot:
		return single(o.Vm, ofSnapshots[m.Name])
	}
	return nil
}

func single(on types.ManagedObjectReference, privilege string) []need {
	if privilege == "" {
		return nil
	}
	return []need{{on, privilege}}
}

func cloneNeeds(r *types.CloneVM_Task) []need {
	all := []need{{r.This, "VirtualMachine.Provisioning.Clone"}, {r.Folder, "VirtualMachine.Inventory.CreateFromExisting"}}
	if pool := r.Spec.Location.Pool; pool != nil {
		all = append(all, need{*pool, "Resource.AssignVMToPool"})
	}
	if ds := r.Spec.Location.Datastore; ds != nil {
		all = append(all, need{*ds, "Datastore.AllocateSpace"})
	}
	return all
}

func moveNeeds(r *types.MoveIntoFolder_Task) []need {
	all := []need{{r.This, "VirtualMachine.Inventory.Move"}}
	for _, vm := range r.List {
		all = append(all, need{vm, "VirtualMachine.Inventory.Move"})
	}
	return all
}

// reconfigureNeeds are what a change of a VM needs, by what it changes.
func reconfigureNeeds(r *types.ReconfigVM_Task) (all []need) {
	add := func(when bool, privilege string) {
		if when {
			all = append(all, need{r.This, "VirtualMachine." + privilege})
		}
	}
	add(r.Spec.Name != "", "Config.Rename")
	add(r.Spec.Annotation != "", "Config.Annotation")
	add(r.Spec.ChangeTrackingEnabled != nil, "Config.ChangeTracking")
	add(len(r.Spec.ExtraConfig) > 0, "Config.AdvancedConfig")
	add(r.Spec.NumCPUs != 0, "Config.CPUCount")
	add(r.Spec.MemoryMB != 0, "Config.Memory")
	for _, c := range r.Spec.DeviceChange {
		change := c.GetVirtualDeviceConfigSpec()
		add(true, deviceNeed(change))
		connect := change.Device.GetVirtualDevice().Connectable
		add(change.Operation == types.VirtualDeviceConfigSpecOperationEdit && connect != nil, "Interact.DeviceConnection")
	}
	return all
}

func deviceNeed(c *types.VirtualDeviceConfigSpec) string {
	_, disk := c.Device.(*types.VirtualDisk)
	switch {
	case c.Operation == types.VirtualDeviceConfigSpecOperationEdit:
		return "Config.EditDevice"
	case !disk:
		return "Config.AddRemoveDevice"
	case c.Operation == types.VirtualDeviceConfigSpecOperationRemove:
		return "Config.RemoveDisk"
	case c.FileOperation == "":
		return "Config.AddExistingDisk"
	}
	return "Config.AddNewDisk"
}
