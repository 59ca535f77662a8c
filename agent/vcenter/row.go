package vcenter

import (
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/vmware"
)

// told is a VM as the API shows it.
func told(r vmware.Row) model.VM {
	v := model.VM{Ref: r.Ref, Name: r.Name, Path: r.Path, Datacenter: r.Datacenter, Cluster: r.Cluster, Host: r.Host, Power: string(r.Power), Template: r.Template,
		InstanceUUID: r.InstanceUUID, BiosUUID: r.BIOSUUID, Guest: r.GuestName, GuestID: r.GuestID, HostName: r.HostName, Addresses: r.Addresses, Tools: r.Tools,
		Hardware: r.Hardware, Firmware: string(r.Firmware), SecureBoot: r.SecureBoot, Tpm: r.TPM, Cpus: r.CPUs, Memory: r.Memory, Used: r.Used,
		Snapshots: vmware.CountSnapshots(r.Snapshots), Cbt: r.CBT, Unknown: r.Unknown, Disks: []model.VMDisk{}, Nics: []model.VMNIC{}, Concerns: []model.Finding{}}
	for _, t := range r.Tags {
		v.Tags = append(v.Tags, t.Category+"/"+t.Name)
	}
	for _, d := range r.Disks {
		v.Disks = append(v.Disks, model.VMDisk{Label: d.Label, Size: d.Size, Datastore: d.Datastore, Kind: d.Kind, Thin: d.Thin})
	}
	for _, n := range r.NICs {
		v.Nics = append(v.Nics, model.VMNIC{Label: n.Label, Mac: n.MAC, Network: n.Network, Model: n.Model})
	}
	for _, c := range r.Concerns {
		v.Concerns = append(v.Concerns, model.Finding{Code: c.Code, Level: model.FindingLevel(c.Level), Text: c.Text, Try: c.Try})
	}
	return v
}

// Row is a VM that the API shows, with all that tables of VMs have columns for.
func Row(v model.VM) vmware.Row {
	r := vmware.Row{VM: vmware.VM{Ref: v.Ref, Name: v.Name, Path: v.Path, Datacenter: v.Datacenter, Cluster: v.Cluster, Host: v.Host, Power: vmware.Power(v.Power), Template: v.Template,
		InstanceUUID: v.InstanceUUID, BIOSUUID: v.BiosUUID, GuestName: v.Guest, GuestID: v.GuestID, HostName: v.HostName, Addresses: v.Addresses, Tools: v.Tools,
		Hardware: v.Hardware, Firmware: machine.Firmware(v.Firmware), SecureBoot: v.SecureBoot, TPM: v.Tpm, CPUs: v.Cpus, Memory: v.Memory, Used: v.Used,
		Snapshots: make([]vmware.Snapshot, v.Snapshots), CBT: v.Cbt, Unknown: v.Unknown}}
	for _, t := range v.Tags {
		category, name, _ := strings.Cut(t, "/")
		r.Tags = append(r.Tags, vmware.Tag{Category: category, Name: name})
	}
	for _, d := range v.Disks {
		r.Disks = append(r.Disks, vmware.Disk{Label: d.Label, Size: d.Size, Datastore: d.Datastore, Kind: d.Kind, Thin: d.Thin})
	}
	for _, n := range v.Nics {
		r.NICs = append(r.NICs, vmware.NIC{Label: n.Label, MAC: n.Mac, Network: n.Network, Model: n.Model})
	}
	for _, c := range v.Concerns {
		r.Concerns = append(r.Concerns, vmware.Concern{Code: c.Code, Level: vmware.Level(c.Level), Text: c.Text, Try: c.Try})
	}
	return r
}
