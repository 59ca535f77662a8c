package vmware

import (
	"cmp"
	"time"

	"hyper2kvm/pipeline/machine"
)

// Power is whether a VM runs.
type Power string

// What a VM can be in.
const (
	On        Power = "on"
	Off       Power = "off"
	Suspended Power = "suspended"
)

// VM is a virtual machine as its server's inventory has it. Sizes are in bytes.
type VM struct {
	Ref          string `json:"ref"`  // its MoRef, such as vm-42
	Name         string `json:"name"` // as people read it: a server's names are escaped
	Path         string `json:"path"` // in the inventory, such as /DC0/vm/Web/web01, with names as the server escapes them
	Datacenter   string `json:"datacenter"`
	Host         string `json:"host,omitempty"`       // that runs it, or would
	HostRef      string `json:"host_ref,omitempty"`   // its MoRef
	HostState    string `json:"host_state,omitempty"` // maintenance, disconnected, notResponding; empty: it works
	Cluster      string `json:"cluster,omitempty"`
	ClusterDRS   string `json:"cluster_drs,omitempty"` // how far DRS acts by itself there: VMware's DrsBehavior
	ClusterDPM   bool   `json:"cluster_dpm,omitempty"` // hosts are switched off there to save power
	Pool         string `json:"pool,omitempty"`
	InstanceUUID string `json:"instance_uuid,omitempty"`
	BIOSUUID     string `json:"bios_uuid,omitempty"`
	Power        Power  `json:"power"`
	State        string `json:"state,omitempty"` // VMware's connectionState; empty: connected
	Template     bool   `json:"template,omitempty"`
	Annotation   string `json:"annotation,omitempty"`
	VMX          string `json:"vmx,omitempty"`        // its file, as a datastore path
	ManagedBy    string `json:"managed_by,omitempty"` // the extension of vCenter that owns it
	Tags         []Tag  `json:"tags,omitempty"`       // read only where they are asked for

	GuestID   string   `json:"guest_id,omitempty"`   // configured: rhel9_64Guest
	GuestName string   `json:"guest_name,omitempty"` // what the tools report, else the configured
	HostName  string   `json:"host_name,omitempty"`  // the guest's own, by its tools
	Addresses []string `json:"addresses,omitempty"`  // the guest's, by its tools
	Tools     string   `json:"tools,omitempty"`      // VMware's toolsRunningStatus
	ToolsKind string   `json:"tools_kind,omitempty"` // VMware's toolsVersionStatus2

	Hardware       string           `json:"hardware,omitempty"` // vmx-19
	Firmware       machine.Firmware `json:"firmware,omitempty"`
	SecureBoot     bool             `json:"secure_boot,omitempty"`
	TPM            bool             `json:"tpm,omitempty"`
	Encrypted      bool             `json:"encrypted,omitempty"`
	CPUs           int              `json:"cpus"`
	CoresPerSocket int              `json:"cores_per_socket,omitempty"`
	Memory         int64            `json:"memory"`
	HotAddCPU      bool             `json:"hot_add_cpu,omitempty"`
	HotAddMemory   bool             `json:"hot_add_memory,omitempty"`
	CPUAffinity    bool             `json:"cpu_affinity,omitempty"`  // it is tied to CPUs of its host
	NUMAAffinity   bool             `json:"numa_affinity,omitempty"` // or to NUMA nodes

	Disks       []Disk      `json:"disks"` // in the order in which the firmware sees them
	NICs        []NIC       `json:"nics"`
	Snapshots   []Snapshot  `json:"snapshots,omitempty"`
	Snapshot    string      `json:"snapshot,omitempty"`    // MoRef of the current one
	Passthrough []string    `json:"passthrough,omitempty"` // devices of the host, by their labels
	USB         bool        `json:"usb,omitempty"`         // a device of the host or a client is connected
	Partitions  []Partition `json:"partitions,omitempty"`  // as the tools report them

	CBT            bool     `json:"cbt,omitempty"`           // changes are tracked
	CBTSupported   bool     `json:"cbt_supported,omitempty"` // or could be
	DiskUUID       bool     `json:"disk_uuid,omitempty"`     // disk.EnableUUID
	Consolidate    bool     `json:"consolidate,omitempty"`   // the server says that it is needed
	FaultTolerance bool     `json:"fault_tolerance,omitempty"`
	Tasks          []string `json:"tasks,omitempty"`    // under way on it, by their description IDs
	Question       string   `json:"question,omitempty"` // that the server waits to have answered
	Rules          []string `json:"rules,omitempty"`    // of its cluster, on where it runs, by their names
	Used           int64    `json:"used,omitempty"`     // of its datastores, all its files
	Unshared       int64    `json:"unshared,omitempty"`
	// Unknown is what the record does not say, by the names of its fields: the user may
	// not read it, the server does not say it, or an imported file has no column for it.
	Unknown []string `json:"unknown,omitempty"`
}

// Tag is one of vSphere's.
type Tag struct {
	Category string `json:"category"`
	Name     string `json:"name"`
}

// Partition is one file system of a guest.
type Partition struct {
	Path     string `json:"path"` // where the guest has it: / or C:\
	Capacity int64  `json:"capacity"`
	Free     int64  `json:"free"`
	FS       string `json:"fs,omitempty"` // the file system, as the tools name it
}

// Disk is one disk of a VM.
type Disk struct {
	Key        int32  `json:"key"`   // VMware's device key
	Label      string `json:"label"` // Hard disk 1
	Bus        string `json:"bus"`   // scsi, nvme, sata, ide, pmem
	Controller int    `json:"controller"`
	Unit       int    `json:"unit"`
	Model      string `json:"model,omitempty"` // of the controller: pvscsi, lsilogic, lsisas1068, buslogic
	Size       int64  `json:"size"`
	UUID       string `json:"uuid,omitempty"`
	// Files are the descriptors that it stands on as datastore paths, its own first,
	// then its parent's: [datastore1] web01/web01-000001.vmdk.
	Files       []string `json:"files"`
	Datastore   string   `json:"datastore"`
	Reachable   bool     `json:"reachable"`        // the datastore, by any host
	Device      string   `json:"device,omitempty"` // of the host, that a raw disk stands for
	Encrypted   bool     `json:"encrypted,omitempty"`
	Filters     []string `json:"filters,omitempty"` // IO filters that see its data, by their IDs
	Boot        int      `json:"boot,omitempty"`    // place in the order that the firmware is told to boot in, from 1
	Thin        bool     `json:"thin,omitempty"`
	Kind        string   `json:"kind"`              // of its backing: flat, seSparse, sparse, rdm-virtual, rdm-physical, raw, pmem
	Mode        string   `json:"mode,omitempty"`    // VMware's diskMode
	Sharing     string   `json:"sharing,omitempty"` // VMware's; empty: none
	BusSharing  string   `json:"bus_sharing,omitempty"`
	ChangeID    string   `json:"change_id,omitempty"`
	Used        int64    `json:"used,omitempty"` // of the datastore, its whole chain
	LinkedClone bool     `json:"linked_clone,omitempty"`
}

// Holds is how many bytes of a disk can be other than zeroes, as far as is known: what it
// takes of its datastore, or all.
func (d Disk) Holds() int64 { return min(d.Size, cmp.Or(d.Used, d.Size)) }

// NIC is one network card of a VM.
type NIC struct {
	Key     int32  `json:"key"`
	Label   string `json:"label"`
	Model   string `json:"model"` // vmxnet3, vmxnet2, vmxnet, e1000, e1000e, vlance, sriov
	MAC     string `json:"mac"`   // lower case, colons
	Network string `json:"network"`
	// NetworkKind is standard, distributed or opaque.
	NetworkKind string   `json:"network_kind,omitempty"`
	NetworkRef  string   `json:"network_ref,omitempty"` // its MoRef
	Addresses   []string `json:"addresses,omitempty"`   // the guest's, by its tools
	Slot        int      `json:"slot,omitempty"`        // VMware's pciSlotNumber
	Connected   bool     `json:"connected"`             // when the VM starts
}

// Snapshot is one of a VM's, with those that stand on it.
type Snapshot struct {
	Ref      string     `json:"ref"`
	Name     string     `json:"name"`
	Text     string     `json:"text,omitempty"`
	Created  time.Time  `json:"created"`
	Children []Snapshot `json:"children,omitempty"`
}

// Level is how much a concern weighs.
type Level string

// What a concern can be.
const (
	Blocker Level = "blocker" // the VM cannot be migrated so
	Warning Level = "warning"
	Info    Level = "info"
)

// Concern is what stands against migrating a VM.
type Concern struct {
	Level Level  `json:"level"`
	Code  string `json:"code"` // stable: vsphere/rdm
	Text  string `json:"text"` // what was seen
	Try   string `json:"try,omitempty"`
}
