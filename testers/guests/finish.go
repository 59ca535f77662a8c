package guests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
)

// finishLimit bounds the finish boot, which takes two minutes emulated, and ten where
// the guest makes its initrds in it.
const finishLimit = 30 * time.Minute

// finished is what the finish boot says when all of it succeeded.
const finished = "guest-finished"

// kernel is what a boot without a boot loader starts.
type kernel struct{ Image, Initrd string }

const finishUnit = `[Unit]
Description=Install the boot loader
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/finish

[Install]
WantedBy=multi-user.target
`

// loaders install the boot loader as the guest's administrator would. Debian
// puts it at the path for removable media only when asked to, so a firmware with
// other variables does not find it.
var loaders = map[machine.Firmware]string{
	machine.BIOS: "grub-install /dev/sda\n",
	machine.UEFI: `grub-install
efibootmgr --verbose
test -e /boot/efi/EFI/debian/grubx64.efi
test ! -e /boot/efi/EFI/BOOT
`,
}

// finishScript is what the guest runs once. It first proves that the guest is
// at home on VMware's devices, and powers off whatever happens.
func (r Recipe) finishScript() string {
	var b strings.Builder
	b.WriteString(`#!/bin/sh -eu
exec > /dev/ttyS0 2>&1
trap 'systemctl --no-block poweroff' EXIT
set -x
dmesg --console-off
`)
	for i := range r.Disks {
		fmt.Fprintf(&b, "test -b %s-part1\n", r.byPath(i))
	}
	for _, v := range r.volumes() {
		b.WriteString(v.check())
	}
	for _, n := range r.NICs {
		b.WriteString(n.check())
	}
	b.WriteString(loaders[r.Firmware])
	for i := 1; i < r.loaderDisks(); i++ {
		fmt.Fprintf(&b, "grub-install /dev/sd%c\n", 'a'+i)
	}
	b.WriteString(r.finishStack())
	b.WriteString(tools[r.Initrd.Tool].finish)
	fmt.Fprintf(&b, `update-grub
grep -F root=%s /boot/grub/grub.cfg
test "$(systemctl --failed --no-legend | tee /dev/ttyS0 | wc -l)" = 0
`, r.at("/").name(r.BootNames))
	b.WriteString(r.listScript())
	fmt.Fprintf(&b, `rm /etc/systemd/system/finish.service /etc/systemd/system/multi-user.target.wants/finish.service /usr/local/sbin/finish
find /var/log -type f -delete
%ssync
fstrim --all
echo %s
`, r.at("/").snapshot(), finished)
	return b.String()
}

// snapshot takes the snapshot of a root.
func (v volume) snapshot() string {
	if v.Snapshot == "" {
		return ""
	}
	in := path.Dir(v.Snapshot)
	return fmt.Sprintf("btrfs subvolume create %s\nmkdir %s\nbtrfs subvolume snapshot -r / %s\n", path.Dir(in), in, v.Snapshot)
}

// check proves that the volume is in use.
func (v volume) check() string {
	if v.Mount == swapSpace {
		return fmt.Sprintf("swapon --show=UUID --noheadings | grep -F %s\n", v.UUID)
	}
	script := ""
	for _, s := range v.subvolumes() {
		script += fmt.Sprintf("findmnt --raw --noheadings --output UUID,FSROOT %s | grep -Fx '%s /%s'\n", s.Mount, v.UUID, s.Name)
	}
	if script != "" {
		return script
	}
	return fmt.Sprintf("findmnt UUID=%s %s\n", v.UUID, v.Mount)
}

// check proves that the card has its address, or none if it is lost.
func (n NIC) check() string {
	driver := fmt.Sprintf("test \"$(basename \"$(readlink -f /sys/class/net/%s/device/driver)\")\" = vmxnet3\n", n.Name)
	if n.lost() {
		return driver + fmt.Sprintf("test -z \"$(ip -4 -o address show dev %s)\"\n", n.Name)
	}
	address := "inet"
	if !n.dhcp() {
		address = n.Address.String()
	}
	return driver + fmt.Sprintf("ip -4 -o address show dev %s | grep -F ' %s '\nping -c 1 -W 10 %s\n", n.Name, address, n.neighbour())
}

// finishLine shows the finish boot on the serial port, without the login prompt
// there, which would hang up the port on the script.
func (r Recipe) finishLine() string {
	root := r.at("/")
	line := fmt.Sprintf("root=%s ro console=ttyS0 systemd.mask=serial-getty@ttyS0.service", root.name(r.BootNames))
	if root.Subvolume != "" {
		line += " rootflags=subvol=" + root.Subvolume
	}
	return line + r.unlockArgument()
}

// finishArgs boot the raw disks, which are in a folder, with their own kernel,
// before they have a boot loader. QEMU's user network answers as the neighbour,
// gives a lease to who asks, and lets nothing out.
func finishArgs(r Recipe, dir, vars, serial string, k kernel) []string {
	a := attached{vars: vars, serial: serial}
	for i := range r.Disks {
		a.drives = append(a.drives, "file="+rawDisk(dir, i)+",format=raw,cache=unsafe,discard=unmap")
	}
	for _, n := range r.NICs {
		a.netdevs = append(a.netdevs, fmt.Sprintf("user,restrict=on,net=%s,host=%s", n.network(), n.neighbour()))
	}
	return append(machineArgs(r, a), "-kernel", k.Image, "-initrd", k.Initrd, "-append", r.finishLine())
}

// keepKernel takes the kernel for the finish boot out of the tree: the last one,
// which the boot loader does not choose if there are two, so the control boot
// proves another.
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

// errSwapped is a guest that did not find a mount by a name that the kernel gives
// to disks in the order in which it meets them: two of them race, as on VMware.
var errSwapped = errors.New("the guest came up in emergency mode")

// tries is how often a guest may come up with its disks swapped.
const tries = 3

// finish boots the guest until its disks have their names, and believes it only if
// it says that it has finished.
func (b *build) finish(ctx context.Context) (err error) {
	for range tries {
		if err = b.finishOnce(ctx); !errors.Is(err, errSwapped) {
			break
		}
	}
	return err
}

// watchEmergency ends a boot as soon as its serial port tells of emergency mode.
func watchEmergency(ctx context.Context, said string, end context.CancelCauseFunc) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if serial, err := os.ReadFile(said); err == nil && strings.Contains(string(serial), "You are in emergency mode") {
			end(errSwapped)
		}
	}
}

func (b *build) finishOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, finishLimit, fmt.Errorf("not finished within %v", finishLimit))
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	said := filepath.Join(b.cache, b.Name+"-finish.log") // outlives a failure
	if err := errors.Join(b.newVars(), os.RemoveAll(said)); err != nil {
		return err
	}
	go watchEmergency(ctx, said, end)
	k := kernel{Image: filepath.Join(b.dir, "vmlinuz"), Initrd: filepath.Join(b.dir, "initrd.img")}
	if err := b.unlockInitrd(&k); err != nil {
		return err
	}
	_, err := proc.Run(ctx, "qemu-system-x86_64", append(b.accel.QEMU(), finishArgs(b.Recipe, b.dir, b.vars(), said, k)...)...)
	serial, read := os.ReadFile(said)
	if err := errors.Join(err, read); err != nil {
		return fmt.Errorf("%w; see %s", err, said)
	}
	for line := range strings.Lines(string(serial)) {
		if strings.TrimSpace(line) == finished {
			return b.checkInitrds(string(serial))
		}
	}
	return fmt.Errorf("the guest powered off unfinished; see %s", said)
}
