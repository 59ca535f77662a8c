package libvirt

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers/probe/wire"
	"hyper2kvm/testers/watch"
)

const uuid = "564d7c1e-5f0b-4a1c-9d3a-2b7e8c41f0a6"

// emitted is a proof of one of the domains in testdata, which package target
// wrote for the machine web01.
func emitted(t *testing.T, name, accelerator string) proof {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".xml"))
	if err != nil {
		t.Fatal(err)
	}
	m := machine.Machine{Name: "web01", UUID: uuid, CPUs: 4, CoresPerSocket: 2, Memory: 2 << 30,
		Disks: []machine.Disk{{Serial: "web01-disk0"}, {Serial: "web01-disk1"}},
		NICs:  []machine.NIC{{MAC: "00:50:56:01:02:03"}, {MAC: "00:50:56:01:02:04"}}}
	return proof{
		spec: watch.Spec{Domain: machine.Target(m, machine.Caps{}), Emitted: string(text), Accel: accelerator, Memory: 1 << 30, Key: []byte("key"),
			Disks: []watch.Disk{{Socket: "/run/s/nbd", Export: "disk0"}, {Socket: "/run/s/nbd", Export: "disk1"}}},
		wires: watch.Wires{Dir: "/run/m", Serial: "/run/m/serial", Probe: "/run/m/probe", Networks: []net.Addr{
			&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5001}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5002}}},
		host: host{user: os.Geteuid(), group: os.Getegid()},
	}
}

func defines(taken bool) func(string) (bool, error) {
	return func(string) (bool, error) { return taken, nil }
}

func parsed(t *testing.T, xml string) *libvirtxml.Domain {
	t.Helper()
	d := &libvirtxml.Domain{}
	if err := d.Unmarshal(xml); err != nil {
		t.Fatal(err)
	}
	return d
}

// hardware leaves of a domain what its guest sees: nothing of where the host
// gets it from.
func hardware(d *libvirtxml.Domain) *libvirtxml.Domain {
	d.Name, d.OnCrash, d.OS.NVRam, d.SecLabel = "", "", nil, nil
	for i := range d.Devices.Disks {
		d.Devices.Disks[i].Source, d.Devices.Disks[i].Driver = nil, nil
	}
	for i := range d.Devices.Interfaces {
		d.Devices.Interfaces[i].Source = nil
	}
	d.Devices.Serials[0].Source, d.Devices.Consoles[0].Source = nil, nil
	d.Devices.Graphics[0].VNC.Listen, d.Devices.Graphics[0].VNC.Listeners = "", nil
	d.Devices.Graphics[0].VNC.AutoPort, d.Devices.Graphics[0].VNC.Port = "", 0
	d.Devices.Channels[0].Source.UNIX.Path = ""
	d.Devices.Channels = slices.DeleteFunc(d.Devices.Channels, func(c libvirtxml.DomainChannel) bool { return c.Target.VirtIO.Name == wire.Port })
	return d
}

func TestTheGuestSeesTheEmittedHardware(t *testing.T) {
	for _, name := range []string{"bios", "secure"} {
		p := emitted(t, name, accel.KVM)
		p.spec.Memory = 0
		xml, _, err := prepared(p, defines(false))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(hardware(parsed(t, p.spec.Emitted)), hardware(parsed(t, xml))); d != "" {
			t.Errorf("%s (-emitted +started):\n%s", name, d)
		}
	}
}

func TestWhatTheHostProvidesIsTheTesters(t *testing.T) {
	xml, _, err := prepared(emitted(t, "secure", accel.TCG), defines(false))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`<domain type="qemu">`, `<cpu mode="maximum">`, `<feature policy="disable" name="la57"></feature>`, `<feature policy="disable" name="cx16"></feature>`, `<topology sockets="2" cores="2" threads="1">`, `<memory unit="KiB">1048576</memory>`,
		`<driver name="qemu" type="raw" cache="unsafe" discard="unmap">`, `<source protocol="nbd" name="disk0">`, `<source protocol="nbd" name="disk1">`,
		`<host transport="unix" socket="/run/s/nbd">`, `<interface type="client">`, `<source address="127.0.0.1" port="5001">`,
		`<source address="127.0.0.1" port="5002">`, `<source mode="connect" path="/run/m/serial">`, `<source mode="connect" path="/run/m/probe">`,
		`<target type="virtio" name="` + wire.Port + `">`, `<source mode="bind" path="/run/m/channel0">`, `<listen type="none">`, `<on_crash>preserve</on_crash>`, `<nvram>/run/m/vars</nvram>`,
		`<uuid>` + uuid + `</uuid>`,
	} {
		if !strings.Contains(xml, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, gone := range []string{"web01-disk0.qcow2", "network=", "pty", `type="kvm"`} {
		if strings.Contains(xml, gone) {
			t.Errorf("%s is left of the emitted domain", gone)
		}
	}
}

func TestEveryDifferenceIsNamed(t *testing.T) {
	p := emitted(t, "secure", accel.TCG)
	p.host = host{user: os.Geteuid(), confines: []string{"apparmor"}}
	_, differences, err := prepared(p, defines(true))
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`-proof-\w+`).ReplaceAllString(strings.Join(differences, "\n"), "-proof-x")
	if d := cmp.Diff(`its name is web01-proof-x
its UUID, which the guest can read in the SMBIOS tables, is another: libvirt has a domain with the emitted one
the CPU is emulated: domain type qemu with CPU mode maximum without la57 and cx16 instead of kvm with CPU mode host-model
network cards are connected to this program (interface type client), not to a network of libvirt's
the serial port is connected to this program, not to a terminal
the guest agent's socket is in this program's folder
VNC listens nowhere
a guest that panics is kept (on_crash)
the firmware's variables are new, and thrown away
QEMU is not confined by apparmor, which would keep it from this program's sockets`, text); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestADomainThatIsThereKeepsItsNameAndUUID(t *testing.T) {
	xml, _, err := prepared(emitted(t, "bios", accel.KVM), defines(true))
	if err != nil {
		t.Fatal(err)
	}
	if d := parsed(t, xml); d.Name == "web01" || d.UUID != "" || d.Type != "kvm" || d.CPU.Mode != "host-model" {
		t.Errorf("started as %s %q, type %s, CPU %s", d.Name, d.UUID, d.Type, d.CPU.Mode)
	}
}

func TestXMLThatIsNotTheMigrationsIsRefused(t *testing.T) {
	for why, change := range map[string]func(*proof){
		"no XML":              func(p *proof) { p.spec.Emitted = "web01" },
		"a domain of nothing": func(p *proof) { p.spec.Emitted = "<domain/>" },
		"a disk more":         func(p *proof) { p.spec.Domain.Disks = p.spec.Domain.Disks[:1] },
		"a disk not served":   func(p *proof) { p.spec.Disks = p.spec.Disks[:1] },
		"a network card more": func(p *proof) { p.spec.Domain.NICs = p.spec.Domain.NICs[:1] },
		"another disk": func(p *proof) {
			p.spec.Emitted = strings.Replace(p.spec.Emitted, "web01-disk1</serial>", "data</serial>", 1)
		},
		"another network card": func(p *proof) {
			p.spec.Emitted = strings.Replace(p.spec.Emitted, "00:50:56:01:02:04", "00:50:56:0a:0a:0a", 1)
		},
		"cards without a MAC": func(p *proof) { p.spec.Emitted = strings.ReplaceAll(p.spec.Emitted, "<mac ", "<alias ") },
	} {
		p := emitted(t, "bios", accel.KVM)
		change(&p)
		if _, _, err := prepared(p, defines(false)); !errors.Is(err, ErrEmitted) {
			t.Errorf("%s: %v, want %v", why, err, ErrEmitted)
		}
	}
}
