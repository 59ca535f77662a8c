package guests

import (
	"fmt"
	"os"
	"path/filepath"

	"hyper2kvm/pipeline/machine"
)

// Firmware of Debian's package ovmf, and the variables that it starts with.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// slot is the PCI slot of card i, as VMware gives them out: systemd makes ens192
// of the first and ens224 of the second.
func slot(i int) int { return 192 + 32*i }

// attached is what a boot connects to the guest's devices: a drive and a netdev
// for each disk and card, without their ids.
type attached struct {
	drives, netdevs []string
	vars            string // of a UEFI firmware, written to
	serial          string // file that takes what the serial port says
}

// machineArgs are VMware's devices as QEMU has them, the first card behind the
// second root port. A slot's number reaches the guest only if PCI Express announces it,
// so QEMU's own ACPI hotplug is off.
func machineArgs(r Recipe, a attached) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35",
		"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
		"-smp", fmt.Sprint(r.CPUs), "-m", fmt.Sprint(r.MemoryMB), "-uuid", r.UUID,
		"-vga", "std", "-serial", "file:" + a.serial,
	}
	if r.Firmware == machine.UEFI {
		args = append(args,
			"-drive", "if=pflash,format=raw,readonly=on,file="+ovmfCode,
			"-drive", "if=pflash,format=raw,file="+a.vars)
	}
	args = append(args,
		"-device", "pcie-root-port,id=port1,chassis=1,slot=1",
		"-device", fmt.Sprintf("pcie-root-port,id=port2,chassis=2,slot=%d", slot(0)),
		"-device", "pcie-root-port,id=port3,chassis=3,slot=3",
	)
	for i, nic := range r.NICs {
		port := 2
		if i > 0 {
			port = 3 + i
			args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=port%d,chassis=%[1]d,slot=%d", port, slot(i)))
		}
		args = append(args,
			"-netdev", fmt.Sprintf("%s,id=net%d", a.netdevs[i], i),
			"-device", fmt.Sprintf("vmxnet3,bus=port%d,netdev=net%d,mac=%s", port, i, nic.MAC))
	}
	args = append(args, "-device", buses[r.Bus].controller)
	for i, drive := range a.drives {
		args = append(args,
			"-drive", fmt.Sprintf("if=none,id=disk%d,%s", i, drive),
			"-device", buses[r.Bus].device(i))
	}
	return args
}

func (b *build) vars() string { return filepath.Join(b.dir, "vars.fd") }

// newVars gives a UEFI guest the variables of a new machine.
func (b *build) newVars() error {
	if b.Firmware != machine.UEFI {
		return nil
	}
	fresh, err := os.ReadFile(ovmfVars)
	if err != nil {
		return err
	}
	return os.WriteFile(b.vars(), fresh, 0o600)
}
