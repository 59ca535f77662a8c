package guests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hyper2kvm/pipeline/proc"
)

// finishLimit bounds the finish boot, which takes two minutes emulated.
const finishLimit = 15 * time.Minute

// finished is what the finish boot says when all of it succeeded.
const finished = "guest-finished"

// finishLine shows the finish boot on the serial port, without the login prompt
// there, which would hang up the port on the script.
const finishLine = "root=/dev/sda1 ro console=ttyS0 systemd.mask=serial-getty@ttyS0.service"

// kernel is what a boot without a boot loader starts.
type kernel struct{ Image, Initrd string }

const finishUnit = `[Unit]
Description=Install the boot loader
After=network.target

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/finish

[Install]
WantedBy=multi-user.target
`

// finishScript is what the guest runs once. It first proves that the guest is
// at home on VMware's devices, and powers off whatever happens.
func (r Recipe) finishScript() string {
	return fmt.Sprintf(`#!/bin/sh -eu
exec > /dev/ttyS0 2>&1
trap 'systemctl --no-block poweroff' EXIT
set -x
test -b %s-part1
test "$(basename "$(readlink -f /sys/class/net/%s/device/driver)")" = vmxnet3
ip -4 -o address show dev %[2]s | grep -F ' %[3]s '
ping -c 1 -W 10 %[4]s
grep -F %[5]s /proc/swaps
grub-install /dev/sda
update-grub
grep -F root=%[7]s /boot/grub/grub.cfg
test "$(systemctl --failed --no-legend | tee /dev/ttyS0 | wc -l)" = 0
rm /etc/systemd/system/finish.service /etc/systemd/system/multi-user.target.wants/finish.service /usr/local/sbin/finish
find /var/log -type f -delete
sync
fstrim /
echo %[6]s
`, byPath, r.NIC.Name, r.NIC.Address, r.NIC.Gateway, r.swap(), finished, r.bootName("/"))
}

// machineArgs are VMware's devices as QEMU has them. The controller is behind
// the third root port, so it is 0000:03:00.0 as on ESXi; the card is behind the
// second. QEMU's user network answers as the gateway and lets nothing out.
func machineArgs(r Recipe, drive, netdev string) []string {
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35",
		"-smp", fmt.Sprint(r.CPUs), "-m", fmt.Sprint(r.MemoryMB), "-uuid", r.UUID,
		"-vga", "std",
		"-device", "pcie-root-port,id=port1,chassis=1,slot=1",
		"-device", "pcie-root-port,id=port2,chassis=2,slot=2",
		"-device", "pcie-root-port,id=port3,chassis=3,slot=3",
		"-netdev", netdev,
		"-device", "vmxnet3,bus=port2,netdev=net0,mac=" + r.NIC.MAC,
		"-device", "pvscsi,id=scsi0,bus=port3",
		"-drive", "if=none,id=disk0," + drive,
		"-device", "scsi-hd,bus=scsi0.0,scsi-id=0,drive=disk0",
	}
}

// finishArgs boot the raw disk with its own kernel, before it has a boot loader.
func finishArgs(r Recipe, raw, serial string, k kernel) []string {
	return append(machineArgs(r,
		"file="+raw+",format=raw,cache=unsafe,discard=unmap",
		fmt.Sprintf("user,id=net0,restrict=on,net=%s,host=%s", r.NIC.Address.Masked(), r.NIC.Gateway)),
		"-serial", "file:"+serial,
		"-kernel", k.Image, "-initrd", k.Initrd, "-append", finishLine)
}

// keepKernel takes the kernel for the finish boot out of the tree: the last one,
// which the boot loader does not choose, so the control boot proves another.
func (b *build) keepKernel(context.Context) error {
	for _, name := range []string{"vmlinuz", "initrd.img"} {
		found, err := filepath.Glob(filepath.Join(b.tree(), "boot", name+"-*"))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("the guest has no %s", name)
		}
		if err := os.Link(found[len(found)-1], filepath.Join(b.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// finish boots the guest once and believes it only if it says so.
func (b *build) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, finishLimit, fmt.Errorf("not finished within %v", finishLimit))
	defer cancel()
	said := filepath.Join(b.cache, b.Name+"-finish.log") // outlives a failure
	k := kernel{Image: filepath.Join(b.dir, "vmlinuz"), Initrd: filepath.Join(b.dir, "initrd.img")}
	_, err := proc.Run(ctx, "qemu-system-x86_64", append(b.accel.QEMU(), finishArgs(b.Recipe, b.raw(), said, k)...)...)
	serial, read := os.ReadFile(said)
	if err := errors.Join(err, read); err != nil {
		return fmt.Errorf("%w; see %s", err, said)
	}
	for line := range strings.Lines(string(serial)) {
		if strings.TrimSpace(line) == finished {
			return nil
		}
	}
	return fmt.Errorf("the guest powered off unfinished; see %s", said)
}
