package target

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"libvirt.org/go/libvirtxml"

	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
)

var web01 = machine.Machine{
	Name: "web01", CPUs: 4, CoresPerSocket: 2, Memory: 2 << 30,
	Disks: []machine.Disk{{Size: 4 << 30, Serial: "web01-disk0"}, {Size: 1 << 30, Serial: "web01-disk1"}},
	NICs:  []machine.NIC{{MAC: "00:50:56:01:02:03"}, {MAC: "00:50:56:01:02:04"}},
}

// domains are the kinds of domain that are emitted.
func domains(t *testing.T) map[string]string {
	t.Helper()
	disks := []Disk{{"/var/lib/images/web01-disk0.qcow2", "qcow2"}, {"/var/lib/images/web01-disk1.raw", "raw"}}
	made := map[string]string{}
	for name, caps := range map[string]machine.Caps{
		"bios virtio": {Firmware: machine.BIOS, DiskBus: "virtio", NICModel: "virtio", RNG: true, Balloon: true},
		"uefi virtio": {Firmware: machine.UEFI, DiskBus: "virtio", NICModel: "virtio", RNG: true, Balloon: true},
		"uefi secure": {Firmware: machine.UEFI, SecureBoot: true, DiskBus: "scsi", NICModel: "virtio"},
		"bios sata":   {Firmware: machine.BIOS, DiskBus: "sata", NICModel: "e1000e"},
	} {
		text, err := LibvirtXML(machine.Target(web01, caps), disks)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		made[name] = text
	}
	d := machine.Target(web01, machine.Caps{Firmware: machine.BIOS, DiskBus: "virtio", NICModel: "virtio"})
	d.NICs[0].Network, d.NICs[0].Bridge, d.NICs[1].Down = "", "br0", true
	text, err := LibvirtXML(d, disks)
	if err != nil {
		t.Fatal(err)
	}
	made["bridge and unplugged"] = text
	for bus, n := range map[string]int{"virtio": 225, "scsi": 100, "sata": 6} { // as many as fit
		m, disks := web01, slices.Repeat(disks[:1], n)
		m.Disks = make([]machine.Disk, n)
		d := machine.Target(m, machine.Caps{DiskBus: bus, NICModel: "virtio"})
		if err := d.Fits(); err != nil {
			t.Fatal(err)
		}
		if made[bus+" full"], err = LibvirtXML(d, disks); err != nil {
			t.Fatal(err)
		}
	}
	return made
}

func TestANICHasItsBridgeAndItsCable(t *testing.T) {
	var x libvirtxml.Domain
	if err := xml.Unmarshal([]byte(domains(t)["bridge and unplugged"]), &x); err != nil {
		t.Fatal(err)
	}
	first, second := x.Devices.Interfaces[0], x.Devices.Interfaces[1]
	if first.Source.Bridge == nil || first.Source.Bridge.Bridge != "br0" || first.Link != nil {
		t.Errorf("the first is %+v", first)
	}
	if second.Source.Network == nil || second.Link == nil || second.Link.State != "down" {
		t.Errorf("the second is %+v", second)
	}
}

func TestTheDomainKeepsTheMachinesRecord(t *testing.T) {
	var x libvirtxml.Domain
	if err := xml.Unmarshal([]byte(domains(t)["uefi virtio"]), &x); err != nil {
		t.Fatal(err)
	}
	if x.Memory.Value != 2<<20 || x.VCPU.Value != 4 || x.CPU.Topology.Sockets != 2 || x.CPU.Topology.Cores != 2 || x.OS.Firmware != "efi" {
		t.Errorf("memory %d KiB, %d CPUs %+v, firmware %q", x.Memory.Value, x.VCPU.Value, x.CPU.Topology, x.OS.Firmware)
	}
	for i, n := range x.Devices.Interfaces {
		if n.MAC.Address != web01.NICs[i].MAC || *n.Address.PCI.Bus != uint(i+1) {
			t.Errorf("interface %d: MAC %s on bus %d, want %s on bus %d", i, n.MAC.Address, *n.Address.PCI.Bus, web01.NICs[i].MAC, i+1)
		}
	}
	for i, d := range x.Devices.Disks {
		if d.Serial != web01.Disks[i].Serial || d.Boot.Order != uint(i+1) || *d.Address.PCI.Bus != uint(i+3) {
			t.Errorf("disk %d: serial %s, boot order %d, bus %d", i, d.Serial, d.Boot.Order, *d.Address.PCI.Bus)
		}
	}
}

func TestADiskMissingFromTheDomainIsAnError(t *testing.T) {
	if _, err := LibvirtXML(machine.Target(web01, machine.Caps{DiskBus: "virtio"}), nil); err == nil {
		t.Error("a domain without its disks was emitted")
	}
}

// A real daemon validates the XML against its schema, defines the domain, and
// gives back the addresses that were asked for.
func TestLibvirtAcceptsEveryDomain(t *testing.T) {
	for _, program := range []string{"virsh", "libvirtd", "setpriv", "qemu-system-x86_64"} {
		if _, err := proc.Look(program); err != nil {
			if os.Getenv("NEED_TOOLS") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	virsh, folder := session(t)
	for name, text := range domains(t) {
		text = strings.Replace(text, `type="kvm"`, `type="qemu"`, 1) // a test host need not have KVM
		if _, err := virsh("define", "--validate", domainFile(t, folder, text)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out, err := virsh("dumpxml", "--inactive", "web01")
		if err != nil {
			t.Fatal(err)
		}
		sameAddresses(t, name, text, out)
		if _, err := virsh("undefine", "--nvram", "web01"); err != nil {
			t.Fatal(err)
		}
	}
}

// session is virsh on a libvirt daemon of this test's own: the session daemon of
// an ordinary user, with every folder that it uses in the test's. (As root,
// libvirt knows no session.)
func session(t *testing.T) (virsh func(...string) (string, error), folder string) {
	dir, err := proc.PrivateDir() // short: sockets are made in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	env := []string{"HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_CACHE_HOME=" + dir, "XDG_DATA_HOME=" + dir}
	asUser := func(name string, args ...string) proc.Command {
		if os.Geteuid() != 0 {
			return proc.Command{Name: name, Args: args, Env: env}
		}
		path, err := proc.Look(name)
		if err != nil {
			t.Fatal(err)
		}
		return proc.Command{Name: "setpriv", Args: append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", path}, args...), Env: env}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "libvirt", "libvirt-sock")
	daemon, err := proc.Start(t.Context(), proc.Service{Command: asUser("libvirtd"), Socket: socket, Ready: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := daemon.Stop(); err != nil {
			t.Error(err)
		}
	})
	return func(args ...string) (string, error) {
		out, err := asUser("virsh", append([]string{"-q", "-c", "qemu:///session"}, args...)...).Run(t.Context())
		return string(out), err
	}, dir
}

// domainFile writes the XML where the daemon's user can read it.
func domainFile(t *testing.T, folder, text string) string {
	t.Helper()
	file := filepath.Join(folder, "domain.xml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func sameAddresses(t *testing.T, name, want, got string) {
	t.Helper()
	compared := 0
	for line := range strings.Lines(want) {
		address, _, ok := strings.Cut(strings.TrimSpace(line), "></address>")
		if !ok || !strings.HasPrefix(address, `<address type="pci"`) {
			continue
		}
		compared++
		if address = strings.ReplaceAll(address, `"`, `'`); !strings.Contains(got, address) {
			t.Errorf("%s: libvirt moved the device at %s", name, address)
		}
	}
	if compared < 8 {
		t.Errorf("%s: only %d addresses were compared", name, compared)
	}
}
