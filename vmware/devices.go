package vmware

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// controller is what disks stand on.
type controller struct {
	bus     string
	number  int
	model   string
	sharing string
}

// busOrder is the order in which VMware's firmware, and virt-v2v, look for disks.
//
// Source: virt-v2v, parse_vmx.ml.
var busOrder = []string{"scsi", "nvme", "sata", "ide", "pmem"}

// firmwareOrder is the order in which the firmware looks for disks.
func firmwareOrder(a, b Disk) int {
	return cmp.Or(cmp.Compare(slices.Index(busOrder, a.Bus), slices.Index(busOrder, b.Bus)), cmp.Compare(a.Controller, b.Controller), cmp.Compare(a.Unit, b.Unit))
}

// devices notes a VM's disks, network cards and what it has of its host.
func (vm *VM) devices(m mo.VirtualMachine, extra map[string]string, p *places) {
	list := m.Config.Hardware.Device
	controllers := map[int32]controller{}
	for _, d := range list {
		if c, ok := asController(d); ok {
			controllers[d.GetVirtualDevice().Key] = c
		}
	}
	cards, own := 0, len(line(vm.Snapshots, vm.Snapshot))
	for _, d := range list {
		switch d := d.(type) {
		case *types.VirtualDisk:
			disk := diskOf(d, controllers[d.ControllerKey], p)
			disk.LinkedClone = disk.LinkedClone || borrowed(disk.Files, own)
			vm.Disks = append(vm.Disks, disk)
		case types.BaseVirtualEthernetCard:
			vm.NICs = append(vm.NICs, nicOf(d, extra[slotKey(cards)], p, m.Guest))
			cards++
		default:
			vm.other(d)
		}
	}
	usage(vm.Disks, m.LayoutEx)
	slices.SortStableFunc(vm.Disks, firmwareOrder)
	bootOrder(vm.Disks, m.Config.BootOptions)
}

// other notes a device that is neither disk nor network card.
func (vm *VM) other(d types.BaseVirtualDevice) {
	switch d := d.(type) {
	case *types.VirtualTPM:
		vm.TPM = true
	case *types.VirtualPCIPassthrough, *types.VirtualSCSIPassthrough:
		vm.Passthrough = append(vm.Passthrough, label(d))
	case *types.VirtualUSB:
		vm.USB = true
	}
}

// label is a device's, as the client shows it.
func label(d types.BaseVirtualDevice) string {
	v := d.GetVirtualDevice()
	if v.DeviceInfo != nil {
		return v.DeviceInfo.GetDescription().Label
	}
	return "device " + strconv.Itoa(int(v.Key))
}

// asController is a device as one that disks stand on.
func asController(d types.BaseVirtualDevice) (controller, bool) {
	switch c := d.(type) {
	case types.BaseVirtualSCSIController:
		s := c.GetVirtualSCSIController()
		sharing := strings.TrimSuffix(string(s.SharedBus), "Sharing")
		if sharing == "no" {
			sharing = ""
		}
		return controller{"scsi", int(s.BusNumber), scsiModel(d), sharing}, true
	case *types.VirtualNVMEController:
		sharing := strings.TrimSuffix(c.SharedBus, "Sharing")
		if sharing == "no" {
			sharing = ""
		}
		return controller{"nvme", int(c.BusNumber), "", sharing}, true
	case types.BaseVirtualSATAController:
		return controller{"sata", int(c.GetVirtualSATAController().BusNumber), "", ""}, true
	case *types.VirtualIDEController:
		return controller{"ide", int(c.BusNumber), "", ""}, true
	case *types.VirtualNVDIMMController:
		return controller{"pmem", int(c.BusNumber), "", ""}, true
	}
	return controller{}, false
}

// scsiModel is VMware's virtualDev of a SCSI controller.
func scsiModel(d types.BaseVirtualDevice) string {
	switch d.(type) {
	case *types.ParaVirtualSCSIController:
		return "pvscsi"
	case *types.VirtualLsiLogicSASController:
		return "lsisas1068"
	case *types.VirtualLsiLogicController:
		return "lsilogic"
	case *types.VirtualBusLogicController:
		return "buslogic"
	}
	return ""
}

// borrowed tells whether a chain goes on, in other folders, below as many snapshots as
// the VM has: then it stands on disks of another VM.
func borrowed(files []string, snapshots int) bool {
	if len(files) <= snapshots+1 {
		return false
	}
	last := folder(files[snapshots])
	return slices.ContainsFunc(files[snapshots+1:], func(f string) bool { return folder(f) != last })
}

// folder is the datastore path without the file's name.
func folder(file string) string {
	if i := strings.LastIndex(file, "/"); i >= 0 {
		return file[:i]
	}
	return file
}

// usage notes what the files of each disk take up.
//
// Source: vSphere Web Services API, VirtualMachineFileLayoutEx.
func usage(disks []Disk, layout *types.VirtualMachineFileLayoutEx) {
	if layout == nil {
		return
	}
	sizes := map[int32]int64{}
	for _, f := range layout.File {
		sizes[f.Key] = f.Size
	}
	for _, l := range layout.Disk {
		i := slices.IndexFunc(disks, func(d Disk) bool { return d.Key == l.Key })
		if i < 0 {
			continue
		}
		for _, unit := range l.Chain {
			for _, key := range unit.FileKey {
				disks[i].Used += sizes[key]
			}
		}
	}
}

// bootOrder notes the order in which the firmware is told to start from the disks.
func bootOrder(disks []Disk, o *types.VirtualMachineBootOptions) {
	if o == nil {
		return
	}
	place := 0
	for _, b := range o.BootOrder {
		d, ok := b.(*types.VirtualMachineBootOptionsBootableDiskDevice)
		if !ok {
			continue
		}
		if i := slices.IndexFunc(disks, func(disk Disk) bool { return disk.Key == d.DeviceKey }); i >= 0 && disks[i].Boot == 0 {
			place++
			disks[i].Boot = place
		}
	}
}
