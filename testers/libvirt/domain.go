package libvirt

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"libvirt.org/go/libvirtxml"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/testers/probe/wire"
	"hyper2kvm/testers/watch"
)

// ErrEmitted is domain XML that is not what the migration wrote.
var ErrEmitted = errors.New("cannot test this libvirt XML; restore what the migration wrote")

// proof is an emitted domain on its way to the one that is started.
type proof struct {
	*libvirtxml.Domain
	spec  watch.Spec
	wires watch.Wires
	host  host
	taken bool // the daemon has a domain with the emitted UUID
}

// edits are all that is changed in the emitted domain. Each says what is other
// than emitted, unless package watch says it of every machine. What the guest
// sees of its hardware stays as it is: model, address, MAC and serial number.
var edits = []func(*proof) (difference string){
	named, identified, accelerated, sized, overlaid, unplugged, recorded, housed, probed, hidden, preserved, forgetful, unconfined, owned,
}

// prepared is the domain to start for a proof of the emitted one. defines tells
// whether there is a domain with a UUID.
func prepared(p proof, defines func(uuid string) (bool, error)) (xml string, differences []string, err error) {
	p.Domain = &libvirtxml.Domain{}
	if err := p.Unmarshal(p.spec.Emitted); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrEmitted, err)
	}
	if err := p.check(); err != nil {
		return "", nil, err
	}
	if p.taken, err = defines(p.UUID); err != nil {
		return "", nil, err
	}
	for _, edit := range edits {
		if difference := edit(&p); difference != "" {
			differences = append(differences, difference)
		}
	}
	xml, err = p.Marshal()
	return xml, differences, err
}

// check compares what is replaced with the domain that the migration knows.
func (p *proof) check() error {
	if p.OS == nil || p.Devices == nil {
		return fmt.Errorf("%w: it has no devices", ErrEmitted)
	}
	disks, cards := p.Devices.Disks, p.Devices.Interfaces
	if len(disks) != len(p.spec.Domain.Disks) || len(disks) != len(p.spec.Disks) || len(cards) != len(p.spec.Domain.NICs) {
		return fmt.Errorf("%w: it has %d disks and %d network cards, and the migration has %d and %d",
			ErrEmitted, len(disks), len(cards), len(p.spec.Domain.Disks), len(p.spec.Domain.NICs))
	}
	for i, d := range p.spec.Domain.Disks {
		if disks[i].Serial != d.Serial {
			return fmt.Errorf("%w: disk %d is %q, not %q", ErrEmitted, i, disks[i].Serial, d.Serial)
		}
	}
	for i, n := range p.spec.Domain.NICs {
		if mac := cards[i].MAC; n.MAC != "" && (mac == nil || !strings.EqualFold(mac.Address, n.MAC)) {
			return fmt.Errorf("%w: network card %d has another MAC address than %s", ErrEmitted, i, n.MAC)
		}
	}
	return nil
}

// named keeps the domain apart from one that was made of the result already.
func named(p *proof) string {
	p.Name += "-proof-" + strings.ToLower(rand.Text()[:8])
	return "its name is " + p.Name
}

// identified leaves the UUID to libvirt if there is a domain with it.
func identified(p *proof) string {
	if !p.taken {
		return ""
	}
	p.UUID = ""
	return "its UUID, which the guest can read in the SMBIOS tables, is another: libvirt has a domain with the emitted one"
}

// accelerated asks for the accelerator that the probe found to work. The
// emulator knows no host model.
func accelerated(p *proof) string {
	if p.spec.Accel == accel.KVM {
		return ""
	}
	was := p.Type
	p.Type = "qemu"
	cpu, lacks := &libvirtxml.DomainCPU{Mode: "maximum"}, accel.Lacks(p.spec.Whole)
	for _, feature := range lacks {
		cpu.Features = append(cpu.Features, libvirtxml.DomainCPUFeature{Policy: "disable", Name: feature})
	}
	if p.CPU != nil {
		was += " with CPU mode " + p.CPU.Mode
		cpu.Topology = p.CPU.Topology
	}
	p.CPU = cpu
	return fmt.Sprintf("the CPU is emulated: domain type qemu with CPU mode maximum without %s instead of %s", strings.Join(lacks, " and "), was)
}

// sized gives the domain the memory that the host can spare.
func sized(p *proof) string {
	if p.spec.Memory != 0 {
		p.Memory, p.CurrentMemory = &libvirtxml.DomainMemory{Value: uint(p.spec.Memory >> 10), Unit: "KiB"}, nil
	}
	return ""
}

// overlaid takes the disks from the tester's storage, with all that the guest
// sees of them. They are thrown away, so they need not survive a power cut.
func overlaid(p *proof) string {
	for i, d := range p.Devices.Disks {
		served := p.spec.Disks[i]
		driver := &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw", Cache: "unsafe"}
		if d.Driver != nil {
			driver.Discard = d.Driver.Discard
		}
		p.Devices.Disks[i] = libvirtxml.DomainDisk{
			Device: d.Device, Model: d.Model, Driver: driver, Geometry: d.Geometry, BlockIO: d.BlockIO, Target: d.Target, ReadOnly: d.ReadOnly,
			Serial: d.Serial, WWN: d.WWN, Vendor: d.Vendor, Product: d.Product, Boot: d.Boot, ACPI: d.ACPI, Address: d.Address,
			Source: &libvirtxml.DomainDiskSource{Network: &libvirtxml.DomainDiskSourceNetwork{Protocol: "nbd", Name: served.Export,
				Hosts: []libvirtxml.DomainDiskSourceHost{{Transport: "unix", Socket: served.Socket}}}},
		}
	}
	return ""
}

// unplugged plugs the network cards into the tester's networks: of the ways in
// which libvirt connects one to a program, this needs no privilege.
// Source: libvirt, docs/formatdomain.rst, TCP tunnel; QEMU, net/socket.c.
func unplugged(p *proof) string {
	for i, n := range p.Devices.Interfaces {
		at := p.wires.Networks[i].(*net.TCPAddr)
		p.Devices.Interfaces[i] = libvirtxml.DomainInterface{
			MAC: n.MAC, Model: n.Model, Boot: n.Boot, ROM: n.ROM, ACPI: n.ACPI, Address: n.Address,
			Source: &libvirtxml.DomainInterfaceSource{Client: &libvirtxml.DomainInterfaceSourceClient{Address: at.IP.String(), Port: uint(at.Port)}},
		}
	}
	if len(p.Devices.Interfaces) == 0 {
		return ""
	}
	return "network cards are connected to this program (interface type client), not to a network of libvirt's"
}

// connected is a character device that QEMU connects to a socket of ours.
func connected(socket string) *libvirtxml.DomainChardevSource {
	return &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "connect", Path: socket}}
}

// recorded connects the first serial port, and the console on it, to the tester.
func recorded(p *proof) string {
	if len(p.Devices.Serials) == 0 {
		return ""
	}
	p.Devices.Serials[0].Source = connected(p.wires.Serial)
	for i, c := range p.Devices.Consoles {
		if c.Target == nil || c.Target.Type == "serial" {
			p.Devices.Consoles[i].Source = connected(p.wires.Serial)
		}
	}
	return "the serial port is connected to this program, not to a terminal"
}

// housed gives the sockets of the emitted channels short names: libvirt makes
// them from the domain's name, which is longer now, and a socket's has 107 bytes.
func housed(p *proof) string {
	difference := ""
	for i, c := range p.Devices.Channels {
		if c.Source != nil && c.Source.UNIX != nil && c.Source.UNIX.Mode == "bind" {
			c.Source.UNIX.Path = filepath.Join(p.wires.Dir, fmt.Sprintf("channel%d", i))
			difference = "the guest agent's socket is in this program's folder"
		}
	}
	return difference
}

// probed adds the probe's port; libvirt puts it on the emitted virtio-serial
// controller, behind the ports that are there.
func probed(p *proof) string {
	if p.wires.Probe != "" {
		p.Devices.Channels = append(p.Devices.Channels, libvirtxml.DomainChannel{
			Source: connected(p.wires.Probe),
			Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: wire.Port}},
		})
	}
	return ""
}

// hidden keeps others on this host from watching the guest, and from typing.
func hidden(p *proof) string {
	for i, g := range p.Devices.Graphics {
		if g.VNC != nil {
			p.Devices.Graphics[i] = libvirtxml.DomainGraphic{VNC: &libvirtxml.DomainGraphicVNC{Listeners: []libvirtxml.DomainGraphicListener{{}}}}
		}
	}
	return "VNC listens nowhere"
}

// preserved keeps a guest that panicked, so that its last words can be read.
func preserved(p *proof) string {
	p.OnCrash = "preserve"
	return "a guest that panics is kept (on_crash)"
}

// forgetful keeps the firmware's variables where they are thrown away: libvirt
// leaves those of a transient domain behind.
func forgetful(p *proof) string {
	if p.OS.Firmware != "efi" {
		return ""
	}
	p.OS.NVRam = &libvirtxml.DomainNVRam{NVRam: filepath.Join(p.wires.Dir, "vars")}
	return "the firmware's variables are new, and thrown away"
}

// unconfined lets QEMU connect to sockets: no security model of libvirt's labels
// the socket of an NBD disk.
// Source: libvirt, src/security/virt-aa-helper.c, get_files; security_selinux.c,
// virSecuritySELinuxSetImageLabelInternal.
func unconfined(p *proof) string {
	if len(p.host.confines) == 0 {
		return ""
	}
	for _, model := range p.host.confines {
		p.SecLabel = append(p.SecLabel, libvirtxml.DomainSecLabel{Type: "none", Model: model})
	}
	return fmt.Sprintf("QEMU is not confined by %s, which would keep it from this program's sockets", strings.Join(p.host.confines, " and "))
}

// owned runs QEMU as the user whose sockets it connects to, where they cannot be
// given to libvirt's own.
func owned(p *proof) string {
	user, group := p.host.runner()
	if user == p.host.user {
		return ""
	}
	p.SecLabel = append(p.SecLabel, libvirtxml.DomainSecLabel{Type: "static", Model: "dac", Relabel: "yes", Label: fmt.Sprintf("+%d:+%d", user, group)})
	return fmt.Sprintf("QEMU runs as user %d, not as libvirt's user %d", user, p.host.user)
}
