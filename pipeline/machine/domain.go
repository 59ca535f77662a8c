package machine

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
)

// Domain is the guest's hardware on KVM. The libvirt XML and the machine that
// the boot proof starts are both made from it, so what is proved is what is
// emitted. Every PCI address is pinned: names that a guest derives from them
// stay the same for as long as the domain lives.
type Domain struct {
	Name       string   `json:"name"`
	UUID       string   `json:"uuid"`
	Firmware   Firmware `json:"firmware"`
	SecureBoot bool     `json:"secure_boot,omitempty"`
	Sockets    int      `json:"sockets"`
	Cores      int      `json:"cores"`  // per socket
	Memory     int64    `json:"memory"` // bytes
	// Ports is how many PCIe root ports there are. Port n (from 1) is the
	// function (n-1)%8 of slot 2+(n-1)/8 of bus 0, and makes bus n.
	Ports   int         `json:"ports"`
	Disks   []Volume    `json:"disks"`
	NICs    []Interface `json:"nics"`
	SCSI    *Controller `json:"scsi,omitempty"` // when disks are on bus scsi or pvscsi
	Channel int         `json:"channel"`        // port of virtio-serial; 0: none
	Balloon int         `json:"balloon"`        // port; 0: none
	RNG     int         `json:"rng"`            // port; 0: none
}

// Volume is one disk of a domain.
type Volume struct {
	Bus    string `json:"bus"`            // virtio, scsi, pvscsi, sata
	Port   int    `json:"port,omitempty"` // of a virtio disk
	Unit   int    `json:"unit,omitempty"` // of a scsi or sata disk
	Target string `json:"target"`         // vda, sda: a hint of the guest's name for it
	Serial string `json:"serial"`
	Boot   int    `json:"boot"` // boot order from 1
}

// Interface is one network interface of a domain.
type Interface struct {
	MAC     string `json:"mac"`
	Model   string `json:"model"` // virtio, e1000e, vmxnet3
	Port    int    `json:"port"`
	Network string `json:"network,omitempty"` // of libvirt
	Bridge  string `json:"bridge,omitempty"`  // of the host, instead of a network
	Down    bool   `json:"down,omitempty"`    // the cable is out
}

// Controller is a SCSI host adapter.
type Controller struct {
	Model string `json:"model"` // virtio-scsi, pvscsi
	Port  int    `json:"port"`
}

// network is the network of libvirt that every interface joins until the
// operator says otherwise: the one that a plain installation has.
const network = "default"

// sparePorts are root ports left empty for devices added to a running guest.
const sparePorts = 4

// Target is the hardware on KVM for a machine whose fixed guest can use caps.
// Network interfaces come first, so that adding a disk renames none of them.
func Target(m Machine, caps Caps) Domain {
	d := base(m, caps.Firmware)
	d.SecureBoot = caps.SecureBoot
	next := ports(1)
	for _, n := range m.NICs {
		d.NICs = append(d.NICs, Interface{MAC: n.MAC, Model: caps.NICModel, Port: next(), Network: network})
	}
	if caps.DiskBus == "scsi" {
		d.SCSI = &Controller{Model: "virtio-scsi", Port: next()}
	}
	boot := bootOrder(m.Disks)
	for i, disk := range m.Disks {
		v := Volume{Bus: caps.DiskBus, Unit: i, Target: diskName("sd", i), Serial: disk.Serial, Boot: boot[i]}
		if caps.DiskBus == "virtio" {
			v.Port, v.Unit, v.Target = next(), 0, diskName("vd", i)
		}
		d.Disks = append(d.Disks, v)
	}
	d.Channel = next()
	if caps.Balloon {
		d.Balloon = next()
	}
	if caps.RNG {
		d.RNG = next()
	}
	d.Ports = next() - 1 + sparePorts
	return d
}

// Control is hardware as near to VMware's as QEMU has it: PVSCSI at the PCI
// address 0000:03:00.0, which VMware gives to its first controller, and
// VMXNET3. A guest that does not boot on it was broken before its migration.
func Control(m Machine) Domain {
	d := base(m, m.Firmware)
	d.SCSI = &Controller{Model: "pvscsi", Port: 3}
	next := ports(4)
	for i, n := range m.NICs {
		port := 2
		if i > 0 {
			port = next()
		}
		d.NICs = append(d.NICs, Interface{MAC: n.MAC, Model: "vmxnet3", Port: port})
	}
	boot := bootOrder(m.Disks)
	for i, disk := range m.Disks {
		d.Disks = append(d.Disks, Volume{Bus: "pvscsi", Unit: i, Target: diskName("sd", i), Serial: disk.Serial, Boot: boot[i]})
	}
	d.Channel = next()
	d.Ports = next() - 1
	return d
}

// bootOrder is the place of each disk in the order to boot in, from 1: those
// that the source's firmware was told of, then the others as they stand.
func bootOrder(disks []Disk) []int {
	var order []int
	for i := range disks {
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(uint(disks[a].Boot)-1, uint(disks[b].Boot)-1) // a zero is last
	})
	places := make([]int, len(disks))
	for place, i := range order {
		places[i] = place + 1
	}
	return places
}

func base(m Machine, fw Firmware) Domain {
	d := Domain{Name: m.Name, UUID: m.UUID, Firmware: fw, Sockets: max(1, m.CPUs), Cores: 1, Memory: m.Memory}
	if d.UUID == "" {
		d.UUID = nameUUID(m.Name)
	}
	if c := m.CoresPerSocket; c > 1 && d.Sockets%c == 0 {
		d.Sockets, d.Cores = d.Sockets/c, c
	}
	return d
}

// nameUUID makes a UUID from a name: the same machine always gets the same one.
func nameUUID(name string) string {
	b := sha256.Sum256([]byte("hyper2kvm domain " + name))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80 // RFC 9562, version 8
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func ports(next int) func() int {
	return func() int {
		next++
		return next - 1
	}
}

// diskName is the kernel's name of disk i: sda … sdz, sdaa …
func diskName(prefix string, i int) string {
	if i >= 26 {
		prefix, i = diskName(prefix, i/26-1), i%26
	}
	return prefix + string(rune('a'+i))
}

// mostPorts is how many root ports there are slots for: 2 to 30, eight to each. Slot 1 is
// the graphics card's, 31 the chipset's.
const mostPorts = 29 * 8

// MostDisks is how many disks a domain can have at most, on the bus that takes most.
const MostDisks = mostPorts

// most is how many disks each bus takes.
//
// Source: QEMU, hw/i386/pc_q35.c (six ports of its AHCI controller), hw/scsi/vmw_pvscsi.c
// (PVSCSI_MAX_DEVS); libvirt, domaincommon.rng (a SCSI target has two digits).
var most = map[string]int{"virtio": MostDisks, "scsi": 100, "sata": 6, "pvscsi": 64}

// Fits is an error for a domain with more devices than such a machine takes.
func (d Domain) Fits() error {
	if has := len(d.Disks); has > 0 && has > most[d.Disks[0].Bus] {
		bus := d.Disks[0].Bus // all are on one
		return fmt.Errorf("it has %d disks, and the bus %s of the target takes %d: leave disks out, or join them in the guest", has, bus, most[bus])
	}
	if d.Ports > mostPorts {
		return fmt.Errorf("its devices take %d PCIe ports, and the target has %d: leave disks or network cards out", d.Ports, mostPorts)
	}
	return nil
}

// PortAddress is the slot and function on bus 0 of root port n, counted from 1.
// It is where libvirt puts them, so that its own additions find their places.
func PortAddress(n int) (slot, function int) { return 2 + (n-1)/8, (n - 1) % 8 }
