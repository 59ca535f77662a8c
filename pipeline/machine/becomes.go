package machine

// Becomes is what the operator's maps, names and other wishes make of a machine: what is
// known of the target before anything is changed. Buses and models follow from the drivers
// that the guest has after FIX, and are not in it.
type Becomes struct {
	Name       string   `json:"name"`
	Firmware   Firmware `json:"firmware"`
	SecureBoot bool     `json:"secure_boot,omitempty"`
	CPUs       int      `json:"cpus"`
	Cores      int      `json:"cores"`              // per socket
	WasCPUs    int      `json:"was_cpus,omitempty"` // the source's, where the target has others
	Memory     int64    `json:"memory"`             // bytes
	WasMemory  int64    `json:"was_memory,omitempty"`

	NICs  []Joins  `json:"nics"`
	Disks []GoesTo `json:"disks"`
}

// Joins is the network that a machine's NIC is put into.
type Joins struct {
	MAC     string `json:"mac"`
	From    string `json:"from,omitempty"`    // the source's name for its network
	Network string `json:"network,omitempty"` // of libvirt
	Bridge  string `json:"bridge,omitempty"`  // of the host, instead of a network
}

// GoesTo is the place that a machine's disk is copied to.
type GoesTo struct {
	From   string `json:"from,omitempty"`   // the source's name for what it lies on
	Folder string `json:"folder,omitempty"` // the migration's own if empty
	Device string `json:"device,omitempty"` // instead of a folder
}
