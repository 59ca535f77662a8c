package vmware

import (
	"fmt"
	"regexp"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// Machine is the VM's hardware as the pipeline knows machines. The disks are named by
// their datastore paths; who reads them names them anew.
func (vm VM) Machine() machine.Machine {
	m := machine.Machine{
		Name: vm.Name, Source: vm.Path, UUID: vm.BIOSUUID, GuestID: guestOS(vm.GuestID),
		Firmware: vm.Firmware, SecureBoot: vm.SecureBoot, TPM: vm.TPM,
		CPUs: vm.CPUs, CoresPerSocket: vm.CoresPerSocket, Memory: vm.Memory,
		LeftBehind: vm.Passthrough,
	}
	for i, d := range vm.Disks {
		disk := d.machine()
		disk.Serial = machine.Serial(vm.Name, i)
		m.Disks = append(m.Disks, disk)
	}
	for _, n := range vm.NICs {
		m.NICs = append(m.NICs, machine.NIC{MAC: n.MAC, Network: n.Network, Model: n.Model, Slot: n.Slot, Disconnected: !n.Connected})
	}
	return m
}

// kinds are VMware's names of what a disk of a kind is, in the words of its descriptor.
//
// Source: VMware Virtual Disk Format 5.0, createType.
var kinds = map[string]string{
	"flat": "vmfs", "sparse": "vmfsSparse", "seSparse": "seSparse", "raw": "fullDevice",
	"rdm-virtual": "vmfsRawDeviceMap", "rdm-physical": "vmfsPassthroughRawDeviceMap",
}

func (d Disk) machine() machine.Disk {
	m := machine.Disk{
		Format: "vmdk", Kind: kinds[d.Kind], Size: d.Size, Boot: d.Boot,
		Bus: d.Bus, Controller: d.Controller, Unit: d.Unit, Model: d.Model,
		Mode: d.mode(), Shared: d.shared(), Storage: d.Datastore,
	}
	if len(d.Files) > 0 {
		m.Path, m.Parents = d.Files[0], d.Files[1:]
	}
	if len(m.Parents) == 0 {
		m.Parents = nil
	}
	return m
}

// mode is how VMware treats what is written to a disk, as a VMX file says it; empty if
// it is kept.
func (d Disk) mode() string {
	if d.Mode == "persistent" {
		return ""
	}
	return strings.ReplaceAll(d.Mode, "_", "-")
}

// shared is the setting by which other machines may write to a disk too, as a VMX file
// says it.
func (d Disk) shared() string {
	switch {
	case d.BusSharing != "":
		return fmt.Sprintf("%s%d.sharedbus = %s", d.Bus, d.Controller, d.BusSharing)
	case d.Sharing == "sharingMultiWriter":
		return fmt.Sprintf("%s%d:%d.sharing = multi-writer", d.Bus, d.Controller, d.Unit)
	case d.Sharing != "":
		return fmt.Sprintf("%s%d:%d.sharing = %s", d.Bus, d.Controller, d.Unit, d.Sharing)
	}
	return ""
}

var bits = regexp.MustCompile(`_?64$`)

// guestOS is a guest's kind as a VMX file names it: rhel8_64Guest is rhel8-64 there.
//
// Source: virt-v2v and files written by ESXi beside their VMs' configuration.
func guestOS(id string) string {
	if id == "" {
		return ""
	}
	name := strings.ToLower(strings.Replace(id, "Guest", "", 1))
	if strings.HasPrefix(name, "winlonghorn") {
		name = strings.TrimPrefix(name, "win")
	}
	return bits.ReplaceAllString(name, "-64")
}
