package qemu

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers/probe/wire"
	"hyper2kvm/testers/watch"
)

// monitor is the Unix socket that QEMU answers on.
func monitor(w watch.Wires) string { return filepath.Join(w.Dir, "qmp") }

// varsFile holds the firmware's variables.
func varsFile(w watch.Wires) string { return filepath.Join(w.Dir, "vars") }

// props are the properties of one device, block node or netdev. QEMU takes them
// as JSON, in which no name of a guest can add a property of its own.
type props map[string]any

// Firmware files of Debian's package ovmf, and the variables that each starts
// with: the second set holds Microsoft's keys.
const (
	ovmfCode       = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars       = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	ovmfSecureCode = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	ovmfSecureVars = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
)

// processor is the accelerator and a CPU that the guest can run on.
func processor(s watch.Spec) []string {
	if s.Accel == accel.TCG && s.Whole {
		return []string{"-accel", accel.Emulator, "-cpu", accel.Emulated(true)}
	}
	return accel.Choice{Name: s.Accel}.QEMU()
}

// arguments is QEMU's command line for a domain, paused until told to go on.
func arguments(s watch.Spec, w watch.Wires) ([]string, error) {
	d := s.Domain
	memory := d.Memory
	if s.Memory != 0 {
		memory = s.Memory
	}
	args := []string{
		"-nodefaults", "-no-user-config",
		"-name", "guest=" + comma(d.Name), "-uuid", d.UUID,
		"-machine", machineType(d),
		"-smp", fmt.Sprintf("%d,sockets=%d,cores=%d,threads=1", d.Sockets*d.Cores, d.Sockets, d.Cores),
		"-m", fmt.Sprintf("%dB", memory),
		"-rtc", "base=utc,driftfix=slew", "-boot", "strict=on,menu=off",
		"-display", "none", "-S", "-msg", "timestamp=on",
		// A guest that panicked or shut down is looked at before it is gone.
		"-action", "panic=pause,shutdown=pause",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", "socket,id=qmp,server=on,wait=off,path=" + comma(monitor(w)),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=serial,path=" + comma(w.Serial),
	}
	args = append(args, processor(s)...)
	if s.Key != nil {
		args = append(args, "-chardev", "socket,id=probe,path="+comma(w.Probe))
	}
	if d.SecureBoot {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if d.Channel != 0 {
		args = append(args, "-chardev", "null,id=agent")
	}
	var err error
	add := func(option string, p props) {
		b, marshalErr := json.Marshal(p)
		if marshalErr != nil {
			err = fmt.Errorf("%s: %w", option, marshalErr)
		}
		args = append(args, option, string(b))
	}
	for _, node := range blockNodes(s, w) {
		add("-blockdev", node)
	}
	for i := range d.NICs {
		add("-netdev", props{"type": "stream", "id": fmt.Sprintf("net%d", i), "server": false,
			"addr": props{"type": "unix", "path": w.Networks[i].String()}})
	}
	devices, deviceErr := devices(s)
	if deviceErr != nil {
		return nil, deviceErr
	}
	for _, device := range devices {
		add("-device", device)
	}
	return args, err
}

// comma doubles commas, which separate properties.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// machineType has the timers of the emitted domain, as -rtc has: no HPET, and a
// clock that makes up for lost ticks.
func machineType(d machine.Domain) string {
	t := "q35,usb=off,vmport=off,hpet=off"
	if d.Firmware != machine.UEFI {
		return t
	}
	if d.SecureBoot {
		t += ",smm=on"
	}
	return t + ",pflash0=code,pflash1=vars"
}

func blockNodes(s watch.Spec, w watch.Wires) []props {
	var nodes []props
	if s.Domain.Firmware == machine.UEFI {
		code, _ := firmware(s.Domain)
		nodes = append(nodes,
			props{"driver": "raw", "node-name": "code", "read-only": true, "file": props{"driver": "file", "filename": code}},
			props{"driver": "raw", "node-name": "vars", "file": props{"driver": "file", "filename": varsFile(w)}})
	}
	for i, d := range s.Disks {
		nodes = append(nodes, props{
			"driver": "nbd", "node-name": fmt.Sprintf("disk%d", i), "export": d.Export,
			"server": props{"type": "unix", "path": d.Socket}, "discard": "unmap",
			// The overlay is thrown away: it need not survive a power cut.
			"cache": props{"no-flush": true},
		})
	}
	return nodes
}

// firmware is the code and the initial variables of a UEFI domain.
func firmware(d machine.Domain) (code, vars string) {
	if d.SecureBoot {
		return ovmfSecureCode, ovmfSecureVars
	}
	return ovmfCode, ovmfVars
}

// devices is the domain's hardware, at the addresses that the domain pins.
func devices(s watch.Spec) ([]props, error) {
	d := s.Domain
	if len(s.Disks) != len(d.Disks) {
		return nil, fmt.Errorf("%s has %d disks and %d are served", d.Name, len(d.Disks), len(s.Disks))
	}
	var all []props
	for n := 1; n <= d.Ports; n++ {
		all = append(all, props{"driver": "pcie-root-port", "id": port(n), "bus": "pcie.0",
			"addr": fmt.Sprintf("%x.%x", 2+(n-1)/8, (n-1)%8), "multifunction": true, "chassis": n, "port": n})
	}
	all = append(all,
		props{"driver": "VGA", "id": "video", "bus": "pcie.0", "addr": "1.0"},
		props{"driver": "isa-serial", "chardev": "serial"},
		props{"driver": "pvpanic"})
	if d.SCSI != nil {
		model := map[string]string{"virtio-scsi": "virtio-scsi-pci", "pvscsi": "pvscsi"}[d.SCSI.Model]
		if model == "" {
			return nil, fmt.Errorf("%s: unknown SCSI controller %q", d.Name, d.SCSI.Model)
		}
		all = append(all, props{"driver": model, "id": "scsi", "bus": port(d.SCSI.Port)})
	}
	for i, v := range d.Disks {
		device, err := diskDevice(d, i, v)
		if err != nil {
			return nil, err
		}
		all = append(all, device)
	}
	for i, n := range d.NICs {
		model := map[string]string{"virtio": "virtio-net-pci", "vmxnet3": "vmxnet3", "e1000e": "e1000e"}[n.Model]
		if model == "" {
			return nil, fmt.Errorf("%s: unknown network card %q", d.Name, n.Model)
		}
		// Without its option ROM the card does not try to boot from the network.
		nic := props{"driver": model, "id": fmt.Sprintf("nic%d", i), "bus": port(n.Port), "netdev": fmt.Sprintf("net%d", i), "romfile": ""}
		if n.MAC != "" {
			nic["mac"] = n.MAC
		}
		all = append(all, nic)
	}
	more, err := extras(s)
	return append(all, more...), err
}

func diskDevice(d machine.Domain, i int, v machine.Volume) (props, error) {
	p := props{"drive": fmt.Sprintf("disk%d", i), "id": fmt.Sprintf("volume%d", i), "serial": v.Serial}
	if v.Boot != 0 {
		p["bootindex"] = v.Boot
	}
	switch v.Bus {
	case "virtio":
		p["driver"], p["bus"] = "virtio-blk-pci", port(v.Port)
	case "scsi", "pvscsi":
		if d.SCSI == nil {
			return nil, fmt.Errorf("%s: disk %s has no controller", d.Name, v.Target)
		}
		p["driver"], p["bus"], p["channel"], p["scsi-id"], p["lun"] = "scsi-hd", "scsi.0", 0, v.Unit, 0
	case "sata":
		// The chipset's own controller: six ports of one disk each.
		p["driver"], p["bus"], p["unit"] = "ide-hd", fmt.Sprintf("ide.%d", v.Unit), 0
	default:
		return nil, fmt.Errorf("%s: unknown bus %q of disk %s", d.Name, v.Bus, v.Target)
	}
	return p, nil
}

// extras are the devices through which host and guest talk, and no data goes.
func extras(s watch.Spec) ([]props, error) {
	d := s.Domain
	if s.Key != nil && d.Channel == 0 {
		return nil, fmt.Errorf("%s has no channel for the probe", d.Name)
	}
	var all []props
	if d.Channel != 0 {
		all = append(all,
			props{"driver": "virtio-serial-pci", "id": "channel", "bus": port(d.Channel)},
			props{"driver": "virtserialport", "bus": "channel.0", "nr": 1, "chardev": "agent", "name": "org.qemu.guest_agent.0"})
	}
	if s.Key != nil {
		all = append(all, props{"driver": "virtserialport", "bus": "channel.0", "nr": 2, "chardev": "probe", "name": wire.Port})
	}
	if d.Balloon != 0 {
		all = append(all, props{"driver": "virtio-balloon-pci", "bus": port(d.Balloon)})
	}
	if d.RNG != 0 {
		all = append(all, props{"driver": "virtio-rng-pci", "bus": port(d.RNG)})
	}
	return all, nil
}

func port(n int) string { return fmt.Sprintf("port%d", n) }
