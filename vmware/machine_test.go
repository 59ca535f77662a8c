package vmware

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/pipeline/machine"
)

// fitted gives a VM of the simulator the hardware of a grown server: disks of every
// backing on every bus, snapshots, cards of every network.
func fitted(t *testing.T, l *lab, vm *simulator.VirtualMachine) {
	t.Helper()
	ds := l.object(t, "Datastore", "LocalDS_0")
	file := func(name string) types.VirtualDeviceFileBackingInfo {
		return types.VirtualDeviceFileBackingInfo{FileName: "[LocalDS_0] " + name, Datastore: &ds}
	}
	flat := func(name string, parent *types.VirtualDiskFlatVer2BackingInfo) *types.VirtualDiskFlatVer2BackingInfo {
		return &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: file(name), DiskMode: "persistent", Uuid: "6000c29-" + name, Parent: parent}
	}
	thin := flat("web/web-000002.vmdk", flat("web/web-000001.vmdk", flat("web/web.vmdk", nil)))
	thin.ThinProvisioned, thin.ChangeId, thin.KeyId = types.NewBool(true), "52 de/3", &types.CryptoKeyId{KeyId: "k"}
	clone := flat("web/clone-000002.vmdk", flat("web/clone-000001.vmdk", flat("web/clone.vmdk", flat("golden/golden.vmdk", nil))))
	clone.Sharing, clone.DiskMode = "sharingMultiWriter", "independent_persistent"
	vm.Config.Hardware.Device = []types.BaseVirtualDevice{
		scsi(&types.ParaVirtualSCSIController{}, 1000, 0, "noSharing"),
		scsi(&types.VirtualLsiLogicSASController{}, 1001, 1, "physicalSharing"),
		scsi(&types.VirtualBusLogicController{}, 1002, 2, "noSharing"),
		&types.VirtualNVMEController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 31000}}},
		&types.VirtualAHCIController{VirtualSATAController: types.VirtualSATAController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 15000}, BusNumber: 1}}},
		&types.VirtualIDEController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 200}}},
		oneDisk(2010, 200, 1, &types.VirtualDiskSparseVer2BackingInfo{VirtualDeviceFileBackingInfo: file("web/ide.vmdk"), DiskMode: "nonpersistent", Parent: &types.VirtualDiskSparseVer2BackingInfo{VirtualDeviceFileBackingInfo: file("web/ide-base.vmdk")}}),
		oneDisk(2009, 15000, 3, &types.VirtualDiskLocalPMemBackingInfo{VirtualDeviceFileBackingInfo: file("web/pmem.vmdk"), DiskMode: "persistent"}),
		native(oneDisk(2008, 31000, 0, &types.VirtualDiskSeSparseBackingInfo{VirtualDeviceFileBackingInfo: file("web/se.vmdk"), DiskMode: "persistent"})),
		oneDisk(2007, 1001, 2, &types.VirtualDiskRawDiskVer2BackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "vml.2"}, DescriptorFileName: "[LocalDS_0] web/raw.vmdk"}),
		oneDisk(2006, 1001, 1, &types.VirtualDiskRawDiskMappingVer1BackingInfo{VirtualDeviceFileBackingInfo: file("web/virtual-rdm.vmdk"), DeviceName: "vml.1", CompatibilityMode: "virtualMode", DiskMode: "persistent"}),
		oneDisk(2005, 1001, 0, &types.VirtualDiskRawDiskMappingVer1BackingInfo{VirtualDeviceFileBackingInfo: file("web/rdm.vmdk"), DeviceName: "vml.0", CompatibilityMode: "physicalMode"}),
		oneDisk(2002, 1000, 2, clone),
		oneDisk(2000, 1000, 0, thin),
		&types.VirtualVmxnet3{VirtualVmxnet: types.VirtualVmxnet{VirtualEthernetCard: types.VirtualEthernetCard{MacAddress: "00:50:56:AA:BB:CC", VirtualDevice: types.VirtualDevice{Key: 4000,
			SlotInfo: &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: 192}, Connectable: &types.VirtualDeviceConnectInfo{StartConnected: true},
			Backing: &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: l.object(t, "DistributedVirtualPortgroup", "DC0_DVPG0").Value}}}}}},
		&types.VirtualE1000e{VirtualEthernetCard: types.VirtualEthernetCard{MacAddress: "00:50:56:00:00:02", VirtualDevice: types.VirtualDevice{Key: 4001,
			Connectable: &types.VirtualDeviceConnectInfo{}, Backing: &types.VirtualEthernetCardOpaqueNetworkBackingInfo{OpaqueNetworkId: "not there"}}}},
		&types.VirtualTPM{VirtualDevice: types.VirtualDevice{Key: 11000}},
		&types.VirtualPCIPassthrough{VirtualDevice: types.VirtualDevice{Key: 13000, DeviceInfo: &types.Description{Label: "PCI device 0"}}},
	}
	vm.Config.Firmware, vm.Config.GuestId = "efi", "rhel8_64Guest"
	vm.Config.BootOptions = &types.VirtualMachineBootOptions{EfiSecureBootEnabled: types.NewBool(true), BootOrder: []types.BaseVirtualMachineBootOptionsBootableDevice{
		&types.VirtualMachineBootOptionsBootableCdromDevice{}, &types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: 2008}, &types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: 2000}}}
	vm.Config.Hardware.NumCPU, vm.Config.Hardware.NumCoresPerSocket, vm.Config.Hardware.MemoryMB = 8, types.NewInt32(4), 16384
	vm.Config.ExtraConfig = append(vm.Config.ExtraConfig, &types.OptionValue{Key: "ethernet1.pciSlotNumber", Value: "1184"}, &types.OptionValue{Key: "disk.EnableUUID", Value: "TRUE"}, &types.OptionValue{Key: "guestinfo.long", Value: "x"})
	vm.LayoutEx = &types.VirtualMachineFileLayoutEx{
		File: []types.VirtualMachineFileLayoutExFileInfo{{Key: 1, Size: 10}, {Key: 2, Size: 200}, {Key: 3, Size: 3000}},
		Disk: []types.VirtualMachineFileLayoutExDiskLayout{{Key: 2000, Chain: []types.VirtualMachineFileLayoutExDiskUnit{{FileKey: []int32{1}}, {FileKey: []int32{2}}}}, {Key: 1, Chain: []types.VirtualMachineFileLayoutExDiskUnit{{FileKey: []int32{3}}}}}}
	first, second := ref{Type: "VirtualMachineSnapshot", Value: "snapshot-1"}, ref{Type: "VirtualMachineSnapshot", Value: "snapshot-2"}
	vm.Snapshot = &types.VirtualMachineSnapshotInfo{CurrentSnapshot: &second, RootSnapshotList: []types.VirtualMachineSnapshotTree{
		{Snapshot: first, Name: "before%2f1", ChildSnapshotList: []types.VirtualMachineSnapshotTree{{Snapshot: second, Name: "after", Description: "d", CreateTime: time.Unix(7, 0).UTC()}}}}}
}

func scsi(c types.BaseVirtualSCSIController, key, bus int32, sharing types.VirtualSCSISharing) types.BaseVirtualDevice {
	s := c.GetVirtualSCSIController()
	s.Key, s.BusNumber, s.SharedBus = key, bus, sharing
	return c.(types.BaseVirtualDevice)
}

func oneDisk(key, controller, unit int32, backing types.BaseVirtualDeviceBackingInfo) *types.VirtualDisk {
	return &types.VirtualDisk{CapacityInKB: 1 << 20, CapacityInBytes: 1 << 30, VirtualDevice: types.VirtualDevice{Key: key, ControllerKey: controller, UnitNumber: &unit, Backing: backing, DeviceInfo: &types.Description{Label: "Hard disk"}}}
}

// native is a disk that the server itself calls a linked clone's.
func native(d *types.VirtualDisk) *types.VirtualDisk {
	d.NativeUnmanagedLinkedClone = types.NewBool(true)
	return d
}

func TestAVMsHardwareIsTheMachines(t *testing.T) {
	l := serve(t, simulator.VPX())
	fitted(t, l, l.vm(t, "DC0_H0_VM0"))
	vm, err := l.One(t.Context(), "DC0_H0_VM0")
	if err != nil {
		t.Fatal(err)
	}
	want := machine.Machine{
		Name: "DC0_H0_VM0", Source: "/DC0/vm/DC0_H0_VM0", Firmware: machine.UEFI, SecureBoot: true, TPM: true, UUID: vm.BIOSUUID, GuestID: "rhel8-64",
		CPUs: 8, CoresPerSocket: 4, Memory: 16 << 30, LeftBehind: []string{"PCI device 0"},
		Disks: []machine.Disk{
			{Path: "[LocalDS_0] web/web-000002.vmdk", Kind: "vmfs", Bus: "scsi", Model: "pvscsi", Boot: 2, Parents: []string{"[LocalDS_0] web/web-000001.vmdk", "[LocalDS_0] web/web.vmdk"}},
			{Path: "[LocalDS_0] web/clone-000002.vmdk", Kind: "vmfs", Bus: "scsi", Unit: 2, Model: "pvscsi", Mode: "independent-persistent", Shared: "scsi0:2.sharing = multi-writer",
				Parents: []string{"[LocalDS_0] web/clone-000001.vmdk", "[LocalDS_0] web/clone.vmdk", "[LocalDS_0] golden/golden.vmdk"}},
			{Path: "[LocalDS_0] web/rdm.vmdk", Kind: "vmfsPassthroughRawDeviceMap", Bus: "scsi", Controller: 1, Model: "lsisas1068", Shared: "scsi1.sharedbus = physical"},
			{Path: "[LocalDS_0] web/virtual-rdm.vmdk", Kind: "vmfsRawDeviceMap", Bus: "scsi", Controller: 1, Unit: 1, Model: "lsisas1068", Shared: "scsi1.sharedbus = physical"},
			{Path: "[LocalDS_0] web/raw.vmdk", Kind: "fullDevice", Bus: "scsi", Controller: 1, Unit: 2, Model: "lsisas1068", Shared: "scsi1.sharedbus = physical"},
			{Path: "[LocalDS_0] web/se.vmdk", Kind: "seSparse", Bus: "nvme", Boot: 1},
			{Path: "[LocalDS_0] web/pmem.vmdk", Bus: "sata", Controller: 1, Unit: 3},
			{Path: "[LocalDS_0] web/ide.vmdk", Kind: "vmfsSparse", Bus: "ide", Unit: 1, Mode: "nonpersistent", Parents: []string{"[LocalDS_0] web/ide-base.vmdk"}},
		},
		NICs: []machine.NIC{
			{MAC: "00:50:56:aa:bb:cc", Network: "DC0_DVPG0", Model: "vmxnet3", Slot: 192},
			{MAC: "00:50:56:00:00:02", Network: "not there", Model: "e1000e", Slot: 1184, Disconnected: true},
		},
	}
	for i := range want.Disks {
		want.Disks[i].Format, want.Disks[i].Size, want.Disks[i].Storage, want.Disks[i].Serial = "vmdk", 1<<30, "LocalDS_0", machine.Serial(want.Name, i)
	}
	if d := cmp.Diff(want, vm.Machine()); d != "" {
		t.Errorf("Machine (-want +got):\n%s", d)
	}
	first := Disk{Key: 2000, Label: "Hard disk", Bus: "scsi", Model: "pvscsi", Size: 1 << 30, UUID: "6000c29-web/web-000002.vmdk", Files: vm.Disks[0].Files, Datastore: "LocalDS_0", Reachable: true,
		Thin: true, Encrypted: true, Kind: "flat", Mode: "persistent", ChangeID: "52 de/3", Used: 210, Boot: 2}
	if d := cmp.Diff(first, vm.Disks[0]); d != "" {
		t.Errorf("the first disk (-want +got):\n%s", d)
	}
	for i, d := range vm.Disks {
		if d.LinkedClone != (i == 1 || d.Key == 2008) {
			t.Errorf("disk %v: linked clone %v", d.Files, d.LinkedClone)
		}
	}
	tree := []Snapshot{{Ref: "snapshot-1", Name: "before/1", Children: []Snapshot{{Ref: "snapshot-2", Name: "after", Text: "d", Created: time.Unix(7, 0).UTC()}}}}
	if d := cmp.Diff(tree, vm.Snapshots); d != "" || vm.Snapshot != "snapshot-2" || !vm.DiskUUID {
		t.Errorf("snapshots (-want +got):\n%s current %s, disk UUID %v", d, vm.Snapshot, vm.DiskUUID)
	}
}

func TestGuestsAreCalledAsInVMXFiles(t *testing.T) {
	for id, want := range map[string]string{
		"": "", "rhel8_64Guest": "rhel8-64", "otherGuest": "other", "otherGuest64": "other-64", "ubuntu64Guest": "ubuntu-64", "other5xLinux64Guest": "other5xlinux-64",
		"windows2019srv_64Guest": "windows2019srv-64", "oracleLinux8_64Guest": "oraclelinux8-64", "winLonghorn64Guest": "longhorn-64", "winXPProGuest": "winxppro",
	} {
		if got := guestOS(id); got != want {
			t.Errorf("guestOS(%q) = %q, want %q", id, got, want)
		}
	}
}

// A server may answer what it likes.
func TestAChainOfFilesIsBounded(t *testing.T) {
	loop := &types.VirtualDiskFlatVer2BackingInfo{VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[ds] a/a.vmdk"}}
	loop.Parent = loop
	d := diskOf(oneDisk(2000, 1000, 0, loop), controller{}, newPlaces())
	if len(d.Files) != longest {
		t.Errorf("%d files", len(d.Files))
	}
	p, here := newPlaces(), ref{Type: "Folder", Value: "f"}
	p.of[here] = location{name: "f", parent: here}
	if got := p.path(here, "vm"); len(got) != 2*deepest+3 {
		t.Errorf("path of %d bytes", len(got))
	}
}
