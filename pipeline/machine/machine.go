// Package machine holds the hypervisor's record of a guest's hardware and what
// the fixed guest can use on KVM. It is a leaf that anyone may import.
//
// Machine: what the source hypervisor says the guest's hardware is.
// Caps: what the fixed guest can drive. Domain: the hardware on KVM that
// follows from both, with every PCI address pinned.
package machine

import (
	"fmt"
	"strings"
)

// Firmware is what starts the guest.
type Firmware string

// The two firmwares of a PC.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Guess is the Source of a machine of which only disks are known.
const Guess = "guess"

// Machine is the hypervisor's record of a guest's hardware.
type Machine struct {
	Name           string   `json:"name"`
	Source         string   `json:"source"` // where the record was read: a VMX file's path, or Guess
	Guesses        []string `json:"guesses,omitempty"`
	Firmware       Firmware `json:"firmware,omitempty"` // empty: not known
	SecureBoot     bool     `json:"secure_boot,omitempty"`
	CPUs           int      `json:"cpus"`
	CoresPerSocket int      `json:"cores_per_socket,omitempty"`
	Memory         int64    `json:"memory"` // bytes
	UUID           string   `json:"uuid,omitempty"`
	GuestID        string   `json:"guest_id,omitempty"` // VMware's guestOS
	TPM            bool     `json:"tpm,omitempty"`
	LeftBehind     []string `json:"left_behind,omitempty"` // devices of the VMware host, by VMware's names
	Disks          []Disk   `json:"disks"`
	NICs           []NIC    `json:"nics"`
}

// Disk is one fixed disk, in the order in which the source's firmware sees them.
type Disk struct {
	Path       string `json:"path"`                 // where its data is: a file or a block device
	Format     string `json:"format"`               // QEMU's name: vmdk, raw, qcow2
	Size       int64  `json:"size"`                 // virtual size in bytes
	Was        int64  `json:"was,omitempty"`        // the source's size, of one that was to grow
	Bus        string `json:"bus,omitempty"`        // scsi, nvme, sata, ide; empty: not known
	Controller int    `json:"controller,omitempty"` // the bus's number, as in scsi1
	Unit       int    `json:"unit,omitempty"`       // the disk's number on its controller
	Model      string `json:"model,omitempty"`      // VMware's virtualDev of the controller: pvscsi, lsilogic …
	Serial     string `json:"serial,omitempty"`     // on the target: stable name /dev/disk/by-id/virtio-SERIAL

	Storage string   `json:"storage,omitempty"` // the source's name for what it lies on: a datastore; empty: it has none
	Kind    string   `json:"kind,omitempty"`    // the format by VMware's name: vmfs, seSparse, streamOptimized …
	Parents []string `json:"parents,omitempty"` // the disks that a snapshot stands on, the nearest first
	Dirty   bool     `json:"dirty,omitempty"`   // VMware did not close its files
	Mode    string   `json:"mode,omitempty"`    // VMware's, as independent-nonpersistent; empty: what is written is kept
	Shared  string   `json:"shared,omitempty"`  // the VMX setting by which other machines may write to it
	Boot    int      `json:"boot,omitempty"`    // place in the order that the firmware is told to boot in, from 1
}

// NIC is one network interface card.
type NIC struct {
	MAC     string `json:"mac"`               // lower case, colons; empty: not known
	Network string `json:"network,omitempty"` // the source's name for it
	Model   string `json:"model,omitempty"`   // VMware's virtualDev: vmxnet3, e1000 …
	// Slot is VMware's pciSlotNumber. A predictable interface name on VMware
	// carries it: slot 192 is ens192. Zero: not known.
	Slot         int    `json:"slot,omitempty"`
	Connection   string `json:"connection,omitempty"`   // VMware's connectionType: bridged, nat …
	Disconnected bool   `json:"disconnected,omitempty"` // the cable is out when the machine starts
}

// Caps is what the fixed guest can use: the seam between FIX and the target.
type Caps struct {
	Firmware   Firmware `json:"firmware"`
	SecureBoot bool     `json:"secure_boot,omitempty"`
	DiskBus    string   `json:"disk_bus"`  // virtio, scsi, sata
	NICModel   string   `json:"nic_model"` // virtio, e1000e
	RNG        bool     `json:"rng"`
	Balloon    bool     `json:"balloon"`
}

// maxSerial is what virtio-blk keeps of a serial number, in bytes.
// Source: VIRTIO 1.2, 5.2.6, VIRTIO_BLK_T_GET_ID.
const maxSerial = 20

// Serial is the serial number that disk i of a machine has on the target. It
// depends on nothing that a migration changes, so a plan made twice names the
// same disks.
func Serial(machine string, i int) string {
	kept := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(machine))
	suffix := fmt.Sprintf("-disk%d", i)
	return kept[:min(len(kept), maxSerial-len(suffix))] + suffix
}
