// Package boot is how the appliance starts: from the kernel to systemd. It finds the root
// among the disks, mounts it with the state over it, and hands over. What cannot be found
// or read is told in one sentence, with what to try.
package boot

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/initramfs/modules"
)

// newRoot is where the root is mounted before it is the root.
const newRoot = "/sysroot"

// Run starts the appliance. It comes back only with why that could not be done.
func Run() error {
	if err := kernelFolders(); err != nil {
		return err
	}
	o, err := commandLine()
	if err != nil {
		return err
	}
	tree, err := loadedModules()
	if err != nil {
		return err
	}
	h, err := o.await(here, func() {
		if err := tree.Devices("/sys/devices"); err != nil {
			say("%v", err)
		}
	})
	if err != nil {
		return err
	}
	if err := mountRoot(o, h); err != nil {
		return err
	}
	if err := mountState(o, h); err != nil {
		return err
	}
	return handOver()
}

// kernelFolders are what the kernel tells, and its devices.
func kernelFolders() error {
	for _, m := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", "mode=0755"},
		{"tmpfs", "/run", "mode=0755"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// always are the modules that no device asks for.
var always = []string{"loop", "erofs", "ext4", "overlay", "dm_mod", "dm_verity", "sd_mod", "vfat", "nls_ascii", "nls_cp437", "nls_iso8859_1", "efivarfs"}

func loadedModules() (*modules.Tree, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	tree, err := modules.Open("/usr/lib/modules/" + unix.ByteSliceToString(u.Release[:]))
	if err != nil {
		return nil, sentence("the kernel's modules are not in the initramfs: %v", "write the image anew", err)
	}
	for _, name := range always {
		if err := tree.Load(name); err != nil {
			say("%v", err) // what stands on it says so
		}
	}
	if err := tree.Match("crypto-sha256"); err != nil {
		say("%v", err)
	}
	return tree, nil
}

// await waits until the appliance's disk is there and no other one comes. It has the
// drivers of new devices loaded again and again.
func (o Options) await(k kernel, load func()) (h home, err error) {
	limit := time.Now().Add(o.Wait)
	var count int
	var since time.Time
	for time.Now().Before(limit) {
		load()
		all := k.partitions()
		if len(all) != count || since.IsZero() {
			count, since = len(all), time.Now()
		}
		h, err = o.home(k, all)
		if time.Since(since) >= settled && (err == nil || len(o.homes(k, all)) > 1) {
			return h, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return o.home(k, k.partitions())
}
