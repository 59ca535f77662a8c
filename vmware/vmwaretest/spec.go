package vmwaretest

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// controllers are how each bus is made, the key of its first controller as vSphere
// gives it, and that of the first disk there.
var controllers = map[string]struct {
	controller, disk, span int32
	reserved               int32 // unit that is the controller's own
	make                   func(bus int32) types.BaseVirtualDevice
}{
	"pvscsi": {1000, 2000, 16, 7, func(n int32) types.BaseVirtualDevice {
		return &types.ParaVirtualSCSIController{VirtualSCSIController: scsi(n)}
	}},
	"lsilogic": {1000, 2000, 16, 7, func(n int32) types.BaseVirtualDevice {
		return &types.VirtualLsiLogicController{VirtualSCSIController: scsi(n)}
	}},
	"lsilogic-sas": {1000, 2000, 16, 7, func(n int32) types.BaseVirtualDevice {
		return &types.VirtualLsiLogicSASController{VirtualSCSIController: scsi(n)}
	}},
	"buslogic": {1000, 2000, 16, 7, func(n int32) types.BaseVirtualDevice {
		return &types.VirtualBusLogicController{VirtualSCSIController: scsi(n)}
	}},
	"sata": {15000, 16000, 30, -1, func(n int32) types.BaseVirtualDevice {
		return &types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: types.VirtualController{BusNumber: n}}}
	}},
	"nvme": {31000, 32000, 15, -1, func(n int32) types.BaseVirtualDevice {
		return &types.VirtualNVMEController{VirtualController: types.VirtualController{BusNumber: n}}
	}},
	"ide": {200, 3000, 2, -1, nil}, // every VM has both
}

func scsi(bus int32) types.VirtualSCSIController {
	return types.VirtualSCSIController{
		VirtualController: types.VirtualController{BusNumber: bus},
		SharedBus:         types.VirtualSCSISharingNoSharing,
	}
}

// spec is the VM as the API wants it.
func (v VM) spec(t testing.TB, s *Server) types.VirtualMachineConfigSpec {
	t.Helper()
	spec := types.VirtualMachineConfigSpec{
		Name: v.plainName(), GuestId: v.GuestID, Version: v.Version, Uuid: v.UUID, Annotation: v.Annotation,
		NumCPUs: v.CPUs, MemoryMB: v.Memory >> 20, Firmware: "bios",
		Files:                 &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s] %s/%s.vmx", v.Datastore, v.Directory, filepath.Base(v.Directory))},
		ChangeTrackingEnabled: &v.CBT,
	}
	if v.EFI || v.SecureBoot {
		spec.Firmware = "efi"
		spec.BootOptions = &types.VirtualMachineBootOptions{EfiSecureBootEnabled: &v.SecureBoot}
	}
	devices, err := v.devices(s)
	if err != nil {
		t.Fatal(err)
	}
	spec.DeviceChange, _ = devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	for _, c := range spec.DeviceChange { // the files are there
		c.GetVirtualDeviceConfigSpec().FileOperation = ""
	}
	return spec
}

// plainName is the name to create the VM with: the simulator adds all devices twice where
// it has to escape one.
func (v VM) plainName() string {
	if escape(v.Name) != v.Name {
		return v.UUID
	}
	return v.Name
}

// devices are the controllers, disks and network cards.
func (v VM) devices(s *Server) (all object.VirtualDeviceList, err error) {
	units := map[int32]int32{}
	for i := range v.Disks {
		d := &v.Disks[i]
		c, ok := controllers[d.Bus]
		if !ok {
			return nil, fmt.Errorf("there is no bus %q", d.Bus)
		}
		key := c.controller + d.Number
		if all.FindByKey(key) == nil && c.make != nil {
			n := c.make(d.Number)
			n.GetVirtualDevice().Key = key
			all = append(all, n)
		}
		unit := units[key]
		if unit == c.reserved {
			unit++
		}
		units[key] = unit + 1
		all = append(all, d.device(c.disk+c.span*d.Number+unit, key, unit, i))
	}
	for i, n := range v.NICs {
		nic, err := n.device(s, int32(4000+i))
		if err != nil {
			return nil, err
		}
		all = append(all, nic)
	}
	return all, nil
}

func (d Disk) device(key, controller, unit int32, i int) *types.VirtualDisk {
	return &types.VirtualDisk{
		CapacityInBytes: d.Size, CapacityInKB: d.Size >> 10,
		VirtualDevice: types.VirtualDevice{
			Key: key, ControllerKey: controller, UnitNumber: &unit,
			DeviceInfo: &types.Description{Label: fmt.Sprintf("Hard disk %d", i+1)},
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: d.Path},
				DiskMode:                     d.Mode, ThinProvisioned: &d.Thin, Uuid: d.UUID, Sharing: d.Sharing,
			},
		},
	}
}

func (n NIC) device(s *Server, key int32) (types.BaseVirtualDevice, error) {
	backing, err := s.network(cmp.Or(n.Network, "VM Network"))
	if err != nil {
		return nil, err
	}
	d, err := object.EthernetCardTypes().CreateEthernetCard(cmp.Or(n.Model, "vmxnet3"), backing)
	if err != nil {
		return nil, err
	}
	card := d.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	card.Key, card.MacAddress = key, n.MAC
	card.AddressType = string(types.VirtualEthernetCardMacTypeAssigned)
	return d, nil
}

// network is what a card in a network has behind it, on a host's own switch or on a
// distributed one.
func (s *Server) network(name string) (types.BaseVirtualDeviceBackingInfo, error) {
	for _, e := range s.entities("DistributedVirtualPortgroup") {
		if pg := e.(*simulator.DistributedVirtualPortgroup); pg.Name == name {
			return object.NewDistributedVirtualPortgroup(s.Client, pg.Self).EthernetCardBackingInfo(context.Background())
		}
	}
	return &types.VirtualEthernetCardNetworkBackingInfo{
		VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name}}, nil
}
