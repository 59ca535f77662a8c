package guests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hyper2kvm/pipeline/proc"
)

// stackLimit bounds the boot that makes the stack: LUKS encrypts some gigabytes there.
const stackLimit = 20 * time.Minute

// stacked is what that boot says when all of it succeeded.
const stacked = "guest-stacked"

// stackProgram is its init. It takes itself away in the finish boot.
const stackProgram = "usr/local/sbin/stack"

// stackFiles are those of a guest with LUKS or arrays.
func (r Recipe) stackFiles() []file {
	files := slices.Concat(r.crypttab(), r.mdadmConf())
	if len(files) > 0 {
		files = append(files, file{Path: stackProgram, Mode: 0o755, Content: r.stackScript()})
	}
	return files
}

// contents are the file systems that lie on the stack. The machine that makes it has
// them behind the guest's own disks.
func (r Recipe) contents() []volume {
	var all []volume
	for _, v := range r.volumes() {
		if v.stacked && v.Mount != swapSpace {
			all = append(all, v)
		}
	}
	return all
}

// contentFile is where such a file system waits for its stack.
func contentFile(dir string, v volume) string { return filepath.Join(dir, "content-"+v.UUID) }

// stackScript is init of the machine that makes the stack, with the guest's kernel and
// the guest's own programs, on its root file system, read-only. There is no udev.
func (r Recipe) stackScript() string {
	var b strings.Builder
	b.WriteString(`#!/bin/sh -eu
exec > /dev/ttyS0 2>&1
trap 'sync; echo o > /proc/sysrq-trigger; sleep 60' EXIT
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DM_DISABLE_UDEV=1 MDADM_NO_UDEV=1 LVM_SYSTEM_DIR=/run/stack
mkdir /run/stack
echo 'backup { backup=0 archive=0 }' > /run/stack/lvm.conf
set -x
`)
	for _, p := range r.locked() {
		b.WriteString(p.stackScript())
	}
	for _, a := range r.Arrays {
		fmt.Fprintf(&b, "mdadm %s\n", strings.Join(a.createArgs(r), " "))
	}
	for i, v := range r.contents() {
		fmt.Fprintf(&b, "dd if=%s of=%s bs=1M conv=fsync status=none\n", r.byPath(len(r.Disks)+i), v.kernel)
	}
	for _, v := range r.volumes() {
		if v.stacked && v.Mount == swapSpace {
			fmt.Fprintf(&b, "mkswap --uuid %s %s\n", v.UUID, v.kernel)
		}
	}
	b.WriteString(r.unstackScript())
	return b.String()
}

// stackScript makes what lies in an encrypted partition.
func (p lockedPartition) stackScript() string {
	var b strings.Builder
	device := "/dev/mapper/" + p.Locked.Name
	fmt.Fprintf(&b, "printf %%s '%s' | cryptsetup %s\n", p.Locked.Passphrase, strings.Join(p.Locked.formatArgs(p.path), " "))
	fmt.Fprintf(&b, "printf %%s '%s' | cryptsetup open --key-file=- %s %s\n", p.Locked.Passphrase, p.path, p.Locked.Name)
	for _, args := range groupCommands(p.Group, device) {
		fmt.Fprintf(&b, "lvm %s\n", strings.Join(args, " "))
	}
	fmt.Fprintf(&b, "lvm vgchange --activate y %s\n", p.Group.Name)
	return b.String()
}

// unstackScript closes everything, so that it is at rest.
func (r Recipe) unstackScript() string {
	var b strings.Builder
	b.WriteString("sync\n")
	for _, p := range r.locked() {
		fmt.Fprintf(&b, "lvm vgchange --activate n %s\ncryptsetup close %s\n", p.Group.Name, p.Locked.Name)
	}
	for _, a := range r.Arrays {
		fmt.Fprintf(&b, "mdadm --stop %s\n", a.device())
	}
	fmt.Fprintf(&b, "sync\necho %s\n", stacked)
	return b.String()
}

// finishStack is what only the finish boot can make: an initrd that knows the stack.
func (r Recipe) finishStack() string {
	if len(r.stackFiles()) == 0 {
		return ""
	}
	return "update-initramfs -u -k all\nrm /" + stackProgram + "\n"
}

// stackArgs boot the root file system on its own, beside the disks that it is to go to.
func stackArgs(r Recipe, dir, serial string, k kernel) []string {
	a := attached{serial: serial}
	for i := range r.Disks {
		a.drives = append(a.drives, "file="+rawDisk(dir, i)+",format=raw,cache=unsafe")
	}
	for _, v := range r.contents() {
		a.drives = append(a.drives, "file="+contentFile(dir, v)+",format=raw,readonly=on")
	}
	for range r.NICs {
		a.netdevs = append(a.netdevs, "user,restrict=on")
	}
	line := fmt.Sprintf("root=UUID=%s ro noresume fsck.mode=skip console=ttyS0 init=/%s", r.at("/").UUID, stackProgram)
	return append(machineArgs(r, a), "-kernel", k.Image, "-initrd", k.Initrd, "-append", line)
}

// stack makes what LUKS and md lay over the disks, and moves the file systems there.
// This machine's kernel may have neither, so a machine does it.
func (b *build) stack(ctx context.Context) error {
	if len(b.contents()) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, stackLimit, fmt.Errorf("the stack was not made within %v", stackLimit))
	defer cancel()
	said := filepath.Join(b.cache, b.Name+"-stack.log") // outlives a failure
	if err := os.RemoveAll(said); err != nil {
		return err
	}
	k := kernel{Image: filepath.Join(b.dir, "vmlinuz"), Initrd: filepath.Join(b.dir, "initrd.img")}
	_, err := proc.Run(ctx, "qemu-system-x86_64", append(b.accel.QEMU(), stackArgs(b.Recipe, b.dir, said, k)...)...)
	serial, read := os.ReadFile(said)
	if err := errors.Join(err, read); err != nil {
		return fmt.Errorf("stack: %w; see %s", err, said)
	}
	for line := range strings.Lines(string(serial)) {
		if strings.TrimSpace(line) == stacked {
			return b.dropContents()
		}
	}
	return fmt.Errorf("the stack was not made; see %s", said)
}

func (b *build) dropContents() error {
	var failed []error
	for _, v := range b.contents() {
		failed = append(failed, os.Remove(contentFile(b.dir, v)))
	}
	return errors.Join(failed...)
}
