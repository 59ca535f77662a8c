package qemu

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers/probe/wire"
	"hyper2kvm/testers/watch"
)

// described gathers QEMU's JSON options by the option's name.
func described(t *testing.T, args []string) map[string][]props {
	t.Helper()
	found := map[string][]props{}
	for i, a := range args {
		if i == 0 || !strings.HasPrefix(a, "{") {
			continue
		}
		var p props
		if err := json.Unmarshal([]byte(a), &p); err != nil {
			t.Fatalf("%s is not JSON: %v", a, err)
		}
		found[args[i-1]] = append(found[args[i-1]], p)
	}
	return found
}

// value is what follows an option.
func value(args []string, option string) string {
	i := slices.Index(args, option)
	if i < 0 {
		return ""
	}
	return args[i+1]
}

func guestMachine() machine.Machine {
	return machine.Machine{
		Name: "web,01", UUID: "564d7c1e-5f0b-4a1c-9d3a-2b7e8c41f0a6", CPUs: 4, CoresPerSocket: 2, Memory: 1 << 30, Firmware: machine.BIOS,
		Disks: []machine.Disk{{Serial: "web01-disk0"}, {Serial: "web01-disk1"}},
		NICs:  []machine.NIC{{MAC: "00:50:56:01:02:03"}},
	}
}

func disks() []watch.Disk {
	return []watch.Disk{{Socket: "/run/a/nbd", Export: "disk0"}, {Socket: "/run/a/nbd", Export: "disk1"}}
}

func wires() watch.Wires {
	return watch.Wires{Dir: "/run/m", Serial: "/run/m/serial", Probe: "/run/m/probe",
		Networks: []net.Addr{&net.UnixAddr{Name: "/run/m/net0", Net: "unix"}}}
}

func TestEveryBusAndCardIsAtTheAddressThatTheDomainPins(t *testing.T) {
	nic := func(model string, port string) props {
		return props{"driver": model, "id": "nic0", "bus": port, "netdev": "net0", "mac": "00:50:56:01:02:03", "romfile": ""}
	}
	for _, c := range []struct {
		why    string
		domain machine.Domain
		want   []props
	}{
		{"virtio", machine.Target(guestMachine(), machine.Caps{DiskBus: "virtio", NICModel: "virtio", RNG: true, Balloon: true}), []props{
			{"driver": "virtio-blk-pci", "id": "volume0", "drive": "disk0", "serial": "web01-disk0", "bootindex": 1., "bus": "port2"},
			{"driver": "virtio-blk-pci", "id": "volume1", "drive": "disk1", "serial": "web01-disk1", "bootindex": 2., "bus": "port3"},
			nic("virtio-net-pci", "port1"),
			{"driver": "virtio-serial-pci", "id": "channel", "bus": "port4"},
			{"driver": "virtserialport", "bus": "channel.0", "nr": 1., "chardev": "agent", "name": "org.qemu.guest_agent.0"},
			{"driver": "virtserialport", "bus": "channel.0", "nr": 2., "chardev": "probe", "name": wire.Port},
			{"driver": "virtio-balloon-pci", "bus": "port5"},
			{"driver": "virtio-rng-pci", "bus": "port6"},
		}},
		{"VMware's", machine.Control(guestMachine()), []props{
			{"driver": "pvscsi", "id": "scsi", "bus": "port3"},
			{"driver": "scsi-hd", "id": "volume0", "drive": "disk0", "serial": "web01-disk0", "bootindex": 1., "bus": "scsi.0", "channel": 0., "scsi-id": 0., "lun": 0.},
			{"driver": "scsi-hd", "id": "volume1", "drive": "disk1", "serial": "web01-disk1", "bootindex": 2., "bus": "scsi.0", "channel": 0., "scsi-id": 1., "lun": 0.},
			nic("vmxnet3", "port2"),
			{"driver": "virtio-serial-pci", "id": "channel", "bus": "port4"},
			{"driver": "virtserialport", "bus": "channel.0", "nr": 1., "chardev": "agent", "name": "org.qemu.guest_agent.0"},
			{"driver": "virtserialport", "bus": "channel.0", "nr": 2., "chardev": "probe", "name": wire.Port},
		}},
		{"SATA", machine.Target(guestMachine(), machine.Caps{DiskBus: "sata", NICModel: "e1000e"}), []props{
			{"driver": "ide-hd", "id": "volume0", "drive": "disk0", "serial": "web01-disk0", "bootindex": 1., "bus": "ide.0", "unit": 0.},
			{"driver": "ide-hd", "id": "volume1", "drive": "disk1", "serial": "web01-disk1", "bootindex": 2., "bus": "ide.1", "unit": 0.},
			nic("e1000e", "port1"),
			{"driver": "virtio-serial-pci", "id": "channel", "bus": "port2"},
			{"driver": "virtserialport", "bus": "channel.0", "nr": 1., "chardev": "agent", "name": "org.qemu.guest_agent.0"},
			{"driver": "virtserialport", "bus": "channel.0", "nr": 2., "chardev": "probe", "name": wire.Port},
		}},
	} {
		args, err := arguments(watch.Spec{Domain: c.domain, Disks: disks(), Accel: "tcg", Key: []byte("key")}, wires())
		if err != nil {
			t.Fatal(err)
		}
		all := described(t, args)["-device"]
		fixed := c.domain.Ports + 3 // root ports, video, serial port, panic device
		if diff := cmp.Diff(c.want, all[fixed:]); diff != "" {
			t.Errorf("%s hardware (-want +got):\n%s", c.why, diff)
		}
	}
}

func TestRootPortsAreEightToASlot(t *testing.T) {
	d := machine.Domain{Name: "m", Ports: 9}
	args, err := arguments(watch.Spec{Domain: d, Accel: "kvm"}, wires())
	if err != nil {
		t.Fatal(err)
	}
	ports := described(t, args)["-device"]
	for n, want := range map[int]string{1: "2.0", 2: "2.1", 8: "2.7", 9: "3.0"} {
		if got := ports[n-1]; got["addr"] != want || got["chassis"] != float64(n) || got["multifunction"] != true {
			t.Errorf("port %d = %v, want address %s", n, got, want)
		}
	}
}

func TestAGuestThatNeedsAllOfACPUHasIt(t *testing.T) {
	for _, c := range []struct {
		spec watch.Spec
		cpu  string
		said []string
	}{
		{watch.Spec{Accel: "tcg", Whole: true}, "max,-la57", []string{"the CPU is emulated: model max,-la57"}},
		{watch.Spec{Accel: "tcg"}, "max,-la57,-cx16", []string{"the CPU is emulated: model max,-la57,-cx16"}},
		{watch.Spec{Accel: "kvm", Whole: true}, "host", nil},
		{watch.Spec{Accel: "kvm"}, "host", nil},
	} {
		if got := value(processor(c.spec), "-cpu"); got != c.cpu {
			t.Errorf("%+v: %s", c.spec, got)
		}
		if _, said := (&process{spec: c.spec}).About(); !slices.Equal(said, c.said) {
			t.Errorf("%+v: %q", c.spec, said)
		}
	}
}

func TestTheMachineFollowsTheAcceleratorAndTheFirmware(t *testing.T) {
	d := machine.Control(guestMachine())
	for _, c := range []struct {
		accel  string
		fw     machine.Firmware
		secure bool
		want   map[string]string
		code   string
	}{
		{"kvm", machine.BIOS, false, map[string]string{"-accel": "kvm", "-cpu": "host", "-machine": "q35,usb=off,vmport=off,hpet=off", "-rtc": "base=utc,driftfix=slew"}, ""},
		{"tcg", machine.UEFI, false, map[string]string{"-accel": "tcg,thread=multi,tb-size=64", "-cpu": "max,-la57,-cx16",
			"-machine": "q35,usb=off,vmport=off,hpet=off,pflash0=code,pflash1=vars"}, ovmfCode},
		{"kvm", machine.UEFI, true, map[string]string{"-machine": "q35,usb=off,vmport=off,hpet=off,smm=on,pflash0=code,pflash1=vars",
			"-global": "driver=cfi.pflash01,property=secure,value=on"}, ovmfSecureCode},
	} {
		d.Firmware, d.SecureBoot = c.fw, c.secure
		args, err := arguments(watch.Spec{Domain: d, Disks: disks(), Accel: c.accel}, wires())
		if err != nil {
			t.Fatal(err)
		}
		c.want["-name"], c.want["-smp"], c.want["-m"] = "guest=web,,01", "4,sockets=2,cores=2,threads=1", "1073741824B"
		for option, want := range c.want {
			if got := value(args, option); got != want {
				t.Errorf("%s %s secure %v: %s %q, want %q", c.accel, c.fw, c.secure, option, got, want)
			}
		}
		code := ""
		for _, node := range described(t, args)["-blockdev"] {
			if node["node-name"] == "code" {
				code = node["file"].(map[string]any)["filename"].(string)
			}
		}
		if code != c.code {
			t.Errorf("%s secure %v: firmware %q, want %q", c.fw, c.secure, code, c.code)
		}
		if strings.Contains(strings.Join(args, " "), wire.Port) {
			t.Error("a boot without the probe has the probe's port")
		}
	}
}

func TestWhatCannotBeBuiltIsRefused(t *testing.T) {
	good := machine.Control(guestMachine())
	for why, s := range map[string]watch.Spec{
		"a disk that is not served":       {Domain: good},
		"a probe without a channel":       {Domain: machine.Domain{Name: "m"}, Key: []byte("key")},
		"a bus that we do not know":       {Domain: machine.Domain{Disks: []machine.Volume{{Bus: "floppy"}}}, Disks: disks()[:1]},
		"a SCSI disk without controller":  {Domain: machine.Domain{Disks: []machine.Volume{{Bus: "scsi"}}}, Disks: disks()[:1]},
		"a network card of another world": {Domain: machine.Domain{NICs: []machine.Interface{{Model: "ne2000"}}}},
		"a controller of another world":   {Domain: machine.Domain{SCSI: &machine.Controller{Model: "buslogic"}}},
	} {
		if args, err := arguments(s, wires()); err == nil {
			t.Errorf("%s: %q, want an error", why, args)
		}
	}
}
