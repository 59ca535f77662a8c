// Package target is where results go: for now files in a folder, with the
// libvirt XML that describes the machine to run them.
//
// Disk: one converted disk, in the order of the domain's volumes.
package target

import (
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"hyper2kvm/pipeline/machine"
)

// Disk is one converted disk.
type Disk struct {
	Path   string // absolute
	Format string // qcow2 or raw
}

// LibvirtXML is the domain that runs the converted disks under KVM, with every
// PCI address pinned as it was when the boot was proved.
func LibvirtXML(d machine.Domain, disks []Disk) (string, error) {
	if len(disks) != len(d.Disks) {
		return "", fmt.Errorf("%d converted disks for a domain with %d", len(disks), len(d.Disks))
	}
	x := libvirtxml.Domain{
		Type: "kvm", Name: d.Name, UUID: d.UUID,
		Memory:     &libvirtxml.DomainMemory{Value: uint(d.Memory >> 10), Unit: "KiB"},
		VCPU:       &libvirtxml.DomainVCPU{Value: uint(d.Sockets * d.Cores)},
		OS:         osOf(d),
		Features:   featuresOf(d),
		CPU:        &libvirtxml.DomainCPU{Mode: "host-model", Topology: &libvirtxml.DomainCPUTopology{Sockets: d.Sockets, Cores: d.Cores, Threads: 1}},
		Clock:      clock,
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Controllers: controllers(d),
			Channels:    channels(d),
			Consoles:    []libvirtxml.DomainConsole{{Source: pty, Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: new(uint)}}},
			Serials:     []libvirtxml.DomainSerial{{Source: pty, Target: &libvirtxml.DomainSerialTarget{Port: new(uint)}}},
			Graphics:    []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{AutoPort: "yes", Port: -1, Listen: "127.0.0.1"}}},
			Videos:      []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga", VRam: 16384, Heads: 1, Primary: "yes"}, Address: pci(0, 1, 0)}},
			MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "none"},
			Panics:      []libvirtxml.DomainPanic{{Model: "isa", Address: &libvirtxml.DomainAddress{ISA: &libvirtxml.DomainAddressISA{IOBase: ptr(uint(0x505))}}}},
		},
	}
	for i, v := range d.Disks {
		x.Devices.Disks = append(x.Devices.Disks, diskOf(v, disks[i]))
	}
	for _, n := range d.NICs {
		x.Devices.Interfaces = append(x.Devices.Interfaces, interfaceOf(n))
	}
	if d.Balloon > 0 {
		x.Devices.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "virtio", Address: onPort(d.Balloon)}
	}
	if d.RNG > 0 {
		x.Devices.RNGs = []libvirtxml.DomainRNG{{Model: "virtio", Address: onPort(d.RNG),
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}}}
	}
	text, err := x.Marshal()
	return text + "\n", err
}

var pty = &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}

// clock keeps a guest that was paused or slow from drifting, as virt-install
// sets it up for guests with a paravirtual clock.
var clock = &libvirtxml.DomainClock{Offset: "utc", Timer: []libvirtxml.DomainTimer{
	{Name: "rtc", TickPolicy: "catchup"}, {Name: "pit", TickPolicy: "delay"}, {Name: "hpet", Present: "no"},
}}

func ptr[T any](v T) *T { return &v }

func osOf(d machine.Domain) *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}}
	if d.Firmware != machine.UEFI {
		return os
	}
	os.Firmware = "efi"
	os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
		{Enabled: yesNo(d.SecureBoot), Name: "secure-boot"}, {Enabled: yesNo(d.SecureBoot), Name: "enrolled-keys"},
	}}
	return os
}

func featuresOf(d machine.Domain) *libvirtxml.DomainFeatureList {
	f := &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}}
	if d.SecureBoot {
		f.SMM = &libvirtxml.DomainFeatureSMM{State: "on"} // the firmware guards its keys with it
	}
	return f
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// pci is the address of a device on QEMU's first PCI domain.
func pci(bus, slot, function uint) *libvirtxml.DomainAddress {
	return &libvirtxml.DomainAddress{PCI: &libvirtxml.DomainAddressPCI{Domain: new(uint), Bus: &bus, Slot: &slot, Function: &function}}
}

// onPort is the address of the one device behind root port n: port n makes bus n.
func onPort(n int) *libvirtxml.DomainAddress { return pci(uint(n), 0, 0) }

// controllers are the root ports, the disks' controllers and the serial one.
// libvirt numbers chassis and ports as it does when it assigns them itself.
func controllers(d machine.Domain) []libvirtxml.DomainController {
	list := []libvirtxml.DomainController{
		{Type: "pci", Index: new(uint), Model: "pcie-root"},
		{Type: "usb", Index: new(uint), Model: "none"},
	}
	for n := 1; n <= d.Ports; n++ {
		slot, function := machine.PortAddress(n)
		at := pci(0, uint(slot), uint(function))
		if function == 0 {
			at.PCI.MultiFunction = "on"
		}
		list = append(list, libvirtxml.DomainController{
			Type: "pci", Index: ptr(uint(n)), Model: "pcie-root-port", Address: at,
			PCI: &libvirtxml.DomainControllerPCI{
				Model:  &libvirtxml.DomainControllerPCIModel{Name: "pcie-root-port"},
				Target: &libvirtxml.DomainControllerPCITarget{Chassis: ptr(uint(n)), Port: ptr(uint(slot*8 + function))},
			},
		})
	}
	if d.SCSI != nil {
		list = append(list, libvirtxml.DomainController{Type: "scsi", Index: new(uint), Model: d.SCSI.Model, Address: onPort(d.SCSI.Port)})
	}
	return append(list, libvirtxml.DomainController{Type: "virtio-serial", Index: new(uint), Address: onPort(d.Channel)})
}

func channels(d machine.Domain) []libvirtxml.DomainChannel {
	return []libvirtxml.DomainChannel{{
		Source:  &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
		Target:  &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"}},
		Address: &libvirtxml.DomainAddress{VirtioSerial: &libvirtxml.DomainAddressVirtioSerial{Controller: new(uint), Bus: new(uint), Port: ptr(uint(1))}},
	}}
}

func diskOf(v machine.Volume, disk Disk) libvirtxml.DomainDisk {
	x := libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: disk.Format, Discard: "unmap"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: disk.Path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: v.Target, Bus: v.Bus},
		Serial: v.Serial,
		Boot:   &libvirtxml.DomainDeviceBoot{Order: uint(v.Boot)},
	}
	if strings.HasPrefix(disk.Path, "/dev/") && !strings.HasPrefix(disk.Path, "/dev/shm/") {
		x.Source = &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: disk.Path}}
	}
	switch v.Bus {
	case "virtio":
		x.Address = onPort(v.Port)
	case "sata": // each on a port of the controller
		x.Address = drive(0, v.Unit)
	default: // each a target of its own, as VMware numbers them
		x.Address = drive(v.Unit, 0)
	}
	return x
}

func drive(target, unit int) *libvirtxml.DomainAddress {
	return &libvirtxml.DomainAddress{Drive: &libvirtxml.DomainAddressDrive{
		Controller: new(uint), Bus: new(uint), Target: ptr(uint(target)), Unit: ptr(uint(unit))}}
}

func interfaceOf(n machine.Interface) libvirtxml.DomainInterface {
	x := libvirtxml.DomainInterface{
		Source:  &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: n.Network}},
		Model:   &libvirtxml.DomainInterfaceModel{Type: n.Model},
		Address: onPort(n.Port),
	}
	if n.MAC != "" {
		x.MAC = &libvirtxml.DomainInterfaceMAC{Address: n.MAC}
	}
	if n.Bridge != "" {
		x.Source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: n.Bridge}}
	}
	if n.Down {
		x.Link = &libvirtxml.DomainInterfaceLink{State: "down"}
	}
	return x
}
