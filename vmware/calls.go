package vmware

import (
	"maps"
	"slices"
)

// Purpose is what a call is made for, and so what its privileges are good for.
type Purpose string

// What there is to do in a vSphere.
const (
	ForInventory Purpose = "inventory" // see what there is; everything else needs it
	ForPower     Purpose = "power"     // shut VMs down, and power them on again
	ForSnapshots Purpose = "snapshots" // read VMs while they run
	ForCBT       Purpose = "cbt"       // know which blocks are allocated, or changed
	ForMarks     Purpose = "marks"     // mark VMs that were migrated: rename, annotate, move, disconnect
	ForHTTPS     Purpose = "https"     // read disks as files of datastores
	ForNFC       Purpose = "nfc"       // read disks as exports
	ForVDDK      Purpose = "vddk"      // read disks with VMware's library
	ForHotadd    Purpose = "hotadd"    // read disks as the appliance's own
)

// Purposes are all, in the order in which people think of them.
func Purposes() []Purpose {
	return []Purpose{ForInventory, ForPower, ForSnapshots, ForCBT, ForMarks, ForHTTPS, ForNFC, ForVDDK, ForHotadd}
}

// ObjectKind is a kind of object that a privilege is held on.
type ObjectKind string

// What privileges are held on.
const (
	OnVM        ObjectKind = "VM"
	OnDatastore ObjectKind = "datastore"
	OnFolder    ObjectKind = "folder"    // of the VM, and that it is moved to
	OnAppliance ObjectKind = "appliance" // the VM that this program runs in
	// OnOwnFolder and OnPool are the appliance's folder and resource pool.
	OnOwnFolder ObjectKind = "appliance folder"
	OnPool      ObjectKind = "pool"
	OnRoot      ObjectKind = "root" // folder of the inventory
)

// Need is a privilege that a call needs on a kind of object.
type Need struct {
	Privilege string     `json:"privilege"`
	On        ObjectKind `json:"on"`
}

// Call is a method of the vSphere API, or another way into it, that this program
// uses. Every role has System.Anonymous, System.View and System.Read, so that they are
// not among the needs; a call without needs is for every user that sees the object.
type Call struct {
	Method string  `json:"method"` // as the API calls it
	Object string  `json:"object"` // type of managed object that has it
	For    Purpose `json:"for"`
	Why    string  `json:"why"`
	// Repeat is whether the call may be carried out twice, so that it is said again
	// when its answer was lost.
	Repeat bool   `json:"repeat,omitempty"`
	Needs  []Need `json:"needs,omitempty"`
}

func onVM(privileges ...string) []Need { return on(OnVM, privileges...) }

func on(kind ObjectKind, privileges ...string) (needs []Need) {
	for _, p := range privileges {
		needs = append(needs, Need{p, kind})
	}
	return needs
}

// Calls is every method that this program calls, in the order of a migration. What a
// call does with others of its rows, such as ReconfigVM_Task, is in a row of its own.
//
// Source, where a row says no other: VMware's vSphere Web Services API reference,
// "Required Privileges" of each method, read for 6.0 and for 8.0; vSphere 6.5 to 8.0
// differ in none of them.
func Calls() []Call {
	return slices.Concat(inventoryCalls, powerCalls, snapshotCalls, markCalls, readingCalls)
}

var inventoryCalls = []Call{
	{"RetrieveServiceContent", "ServiceInstance", ForInventory, "which server it is, and of which version", true, nil},
	{"Login", "SessionManager", ForInventory, "begin a session", false, nil},
	{"Logout", "SessionManager", ForInventory, "end it", true, nil},
	{"CurrentTime", "ServiceInstance", ForInventory, "keep the session alive; compare the clocks", true, nil},
	{"RetrieveProperties", "PropertyCollector", ForInventory, "read objects", true, nil},
	{"RetrievePropertiesEx", "PropertyCollector", ForInventory, "read objects, in pages", true, nil},
	// The page is gone when its answer was lost.
	{"ContinueRetrievePropertiesEx", "PropertyCollector", ForInventory, "the next page", false, nil},
	{"CancelRetrievePropertiesEx", "PropertyCollector", ForInventory, "no more pages", true, nil},
	{"CreateContainerView", "ViewManager", ForInventory, "a list of all objects of a kind", false, nil},
	{"DestroyView", "View", ForInventory, "let go of the list", false, nil},
	{"CreatePropertyCollector", "PropertyCollector", ForInventory, "watch objects and tasks", false, nil},
	{"CreateFilter", "PropertyCollector", ForInventory, "say what is watched", false, nil},
	// What is told again is not lost: the version is in the call.
	{"WaitForUpdatesEx", "PropertyCollector", ForInventory, "hear of changes", true, nil},
	{"CancelWaitForUpdates", "PropertyCollector", ForInventory, "hear of no more", true, nil},
	{"DestroyPropertyFilter", "PropertyFilter", ForInventory, "let go of what is watched", false, nil},
	{"DestroyPropertyCollector", "PropertyCollector", ForInventory, "let go of the watch", false, nil},
	{"FindAllByUuid", "SearchIndex", ForInventory, "find the VM that this program runs in", true, nil},
	{"FindByInventoryPath", "SearchIndex", ForInventory, "find an object by its path", true, nil},
	{"FindChild", "SearchIndex", ForInventory, "find an object by its name in a folder", true, nil},
	// Source: vSphere Automation API, cis and cis/tagging.
	{"POST /rest/com/vmware/cis/session", "Automation API", ForInventory, "begin a session there; this and what follows only where tags are asked for", false, nil},
	{"GET /rest/com/vmware/cis/tagging", "Automation API", ForInventory, "names of tags and of their categories", true, nil},
	{"POST /rest/com/vmware/cis/tagging/tag-association", "Automation API", ForInventory, "which VMs have which tags", true, nil},
	{"DELETE /rest/com/vmware/cis/session", "Automation API", ForInventory, "end that session", true, nil},
	{"HasPrivilegeOnEntities", "AuthorizationManager", ForInventory, "which privileges the user lacks", true, nil},
}

var powerCalls = []Call{
	{"ShutdownGuest", "VirtualMachine", ForPower, "ask the guest to shut down", false, onVM("VirtualMachine.Interact.PowerOff")},
	{"PowerOffVM_Task", "VirtualMachine", ForPower, "power off, where the plan allows it", false, onVM("VirtualMachine.Interact.PowerOff")},
	{"QueryEvents", "EventManager", ForPower, "whether somebody powered it on meanwhile", true, nil},
	{"PowerOnVM_Task", "VirtualMachine", ForPower, "power on again after an abort", false, onVM("VirtualMachine.Interact.PowerOn")},
}

var snapshotCalls = []Call{
	{"CreateSnapshot_Task", "VirtualMachine", ForSnapshots, "hold the disks still while they are read", false, onVM("VirtualMachine.State.CreateSnapshot")},
	{"RemoveSnapshot_Task", "VirtualMachineSnapshot", ForSnapshots, "remove this program's own snapshots", false, onVM("VirtualMachine.State.RemoveSnapshot")},
	{"ConsolidateVMDisks_Task", "VirtualMachine", ForSnapshots, "merge what a removed snapshot left unmerged", false, onVM("VirtualMachine.State.RemoveSnapshot")},
	{"ReconfigVM_Task", "VirtualMachine", ForCBT, "track changed blocks", false, onVM("VirtualMachine.Config.ChangeTracking")},
	{"QueryChangedDiskAreas", "VirtualMachine", ForCBT, "which blocks are allocated, or changed", true, onVM("VirtualMachine.Provisioning.DiskRandomRead")},
}

var markCalls = []Call{
	{"Rename_Task", "ManagedEntity", ForMarks, "rename the VM that was migrated", false, onVM("VirtualMachine.Config.Rename")},
	{"ReconfigVM_Task", "VirtualMachine", ForMarks, "annotate it, and disconnect its NICs at start", false,
		onVM("VirtualMachine.Config.Annotation", "VirtualMachine.Config.EditDevice", "VirtualMachine.Interact.DeviceConnection")},
	{"MoveIntoFolder_Task", "Folder", ForMarks, "move it into a folder", false,
		append(onVM("VirtualMachine.Inventory.Move"), on(OnFolder, "VirtualMachine.Inventory.Move")...)},
	// Source: VMware docs, "vSphere Tagging Privileges".
	{"POST /rest/com/vmware/cis/tagging", "Automation API", ForMarks, "tag it, with a tag and a category that are made where there are none", false, slices.Concat(
		onVM("InventoryService.Tagging.AttachTag"),
		on(OnRoot, "InventoryService.Tagging.AttachTag", "InventoryService.Tagging.CreateCategory", "InventoryService.Tagging.CreateTag"))},
	{"DELETE /rest/com/vmware/cis/tagging", "Automation API", ForMarks, "take back the tag and the category that were made", false,
		on(OnRoot, "InventoryService.Tagging.DeleteCategory", "InventoryService.Tagging.DeleteTag")},
}

var readingCalls = []Call{
	// Source: virt-v2v-input-vmware(1), "vCenter: non-administrator role".
	{"GET /folder", "Datastore", ForHTTPS, "read a disk's file", true, on(OnDatastore, "Datastore.Browse", "Datastore.FileManagement")},
	{"ExportVm", "VirtualMachine", ForNFC, "export a VM that is off", false, onVM("VApp.Export")},
	{"ExportSnapshot", "VirtualMachineSnapshot", ForNFC, "export a snapshot", false, onVM("VApp.Export")},
	{"GET /nfc", "HttpNfcLease", ForNFC, "read a disk's stream", true, nil},
	{"HttpNfcLeaseProgress", "HttpNfcLease", ForNFC, "keep an export alive", true, nil},
	{"HttpNfcLeaseComplete", "HttpNfcLease", ForNFC, "end an export", false, nil},
	{"HttpNfcLeaseAbort", "HttpNfcLease", ForNFC, "give an export up", false, nil},
	// Source: kubev2v/forklift, controller/provider/container/vsphere/permissions.go.
	{"VixDiskLib_Open", "VDDK", ForVDDK, "read a disk with VMware's library", false,
		onVM("VirtualMachine.Provisioning.DiskRandomRead", "VirtualMachine.Provisioning.GetVmFiles")},
	{"CloneVM_Task", "VirtualMachine", ForHotadd, "make a temporary linked clone, whose disks can be attached", false, slices.Concat(
		onVM("VirtualMachine.Provisioning.Clone"),
		// The clone lies beside the appliance. It has no NICs, does not track changes, and
		// is annotated: what is propagated from its folder holds for it.
		on(OnOwnFolder, "VirtualMachine.Inventory.CreateFromExisting", "VirtualMachine.Config.AddRemoveDevice",
			"VirtualMachine.Config.Annotation", "VirtualMachine.Config.ChangeTracking"),
		on(OnPool, "Resource.AssignVMToPool"),
		on(OnDatastore, "Datastore.AllocateSpace"))},
	{"ReconfigVM_Task", "VirtualMachine", ForHotadd, "attach the clone's disks to the appliance, and detach them", false,
		on(OnAppliance, "VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.RemoveDisk", "VirtualMachine.Config.EditDevice")},
	{"Destroy_Task", "ManagedEntity", ForHotadd, "remove the clone", false, on(OnOwnFolder, "VirtualMachine.Inventory.Delete")},
}

// known are the calls by their methods.
var known = func() map[string]Call {
	all := map[string]Call{}
	for _, c := range Calls() {
		all[c.Method] = c
	}
	return all
}()

// Privileges are what a role needs for purposes, sorted; for all without any.
func Privileges(purposes ...Purpose) []string {
	needed := map[string]bool{}
	for _, c := range Calls() {
		for _, n := range c.Needs {
			if len(purposes) == 0 || slices.Contains(purposes, c.For) {
				needed[n.Privilege] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(needed))
}
