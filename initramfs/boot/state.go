package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// stateAt is where the state partition is mounted, in the root.
const stateAt = newRoot + "/state"

// mountState mounts what the appliance keeps, and lays it over the root's folders that
// are written to.
func mountState(o Options, h home) error {
	if err := shared(); err != nil {
		return err
	}
	if err := mountKept(o, h); err != nil {
		return err
	}
	for _, name := range []string{"etc", "var"} {
		if err := overlay(name); err != nil {
			return err
		}
	}
	if err := bind(stateAt+"/hyper2kvm", newRoot+"/var/lib/hyper2kvm"); err != nil {
		return err
	}
	return machineID(newRoot + "/etc/machine-id")
}

// shared gives the root what its programs need before it is the root.
func shared() error {
	for _, at := range []string{"/dev", "/proc", "/sys", "/run"} {
		if err := unix.Mount(at, newRoot+at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s in the root: %w", at, err)
		}
	}
	return nil
}

// mountKept mounts the state partition, which is made if it is not there, or memory.
func mountKept(o Options, h home) error {
	switch {
	case o.ToRAM || o.StateInRAM:
		return forgetful()
	case h.disk.ReadOnly:
		say("the disk %s is write-protected: what the appliance keeps is lost when it is switched off", h.disk)
		return forgetful()
	}
	p, err := statePartition(o, h)
	if err != nil {
		return err
	}
	if err := check(p, h.disk); err != nil {
		return err
	}
	if err := unix.Mount(p.Device(), stateAt, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
		return unreadable(p, h.disk, err)
	}
	return grow(p)
}

func forgetful() error {
	if err := unix.Mount("tmpfs", stateAt, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=50%"); err != nil {
		return fmt.Errorf("mount memory for the state: %w", err)
	}
	return nil
}

// statePartition is that of the appliance's disk. systemd-repart makes it, has it take all
// the room that there is, and empties it for a factory reset.
func statePartition(o Options, h home) (Partition, error) {
	p, there := onDisk(h.disk.Name, stateLabel)
	if there && !o.FactoryReset && !roomBehind(h.disk) {
		return p, nil
	}
	args := []string{"--dry-run=no", "--definitions=/usr/lib/hyper2kvm/repart.d", "--discard=no"}
	if o.FactoryReset {
		say("factory reset: everything that the appliance has kept on %s is removed", h.disk)
		args = append(args, "--factory-reset=yes")
	}
	if said, err := run("systemd-repart", append(args, "/dev/"+h.disk.Name)...); err != nil {
		return p, sentence("no state partition can be made on the disk %s: %s", "the disk needs 1 GiB behind the appliance: use a larger one; hyper2kvm.state=ram in the boot entry starts without, and keeps nothing", h.disk, last(said, err))
	}
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		if p, there := onDisk(h.disk.Name, stateLabel); there {
			return p, nil
		}
	}
	return p, sentence("the state partition on the disk %s was made, and does not appear", "start the machine again", h.disk)
}

func onDisk(disk, label string) (Partition, bool) {
	for _, p := range here.partitions() {
		if p.Disk == disk && p.Label == label {
			return p, true
		}
	}
	return Partition{}, false
}

// roomBehind tells whether a disk has room behind its last partition that is worth taking,
// as after it was enlarged.
func roomBehind(d Disk) bool {
	var end int64
	for _, p := range here.partitions() {
		if p.Disk == d.Name {
			end = max(end, p.Start+p.Size)
		}
	}
	return d.Size-end > 64<<20
}

// check mends what e2fsck mends without being asked.
// Source: e2fsck(8): 1 is mended, 2 wants the machine started again.
func check(p Partition, d Disk) error {
	said, err := run("e2fsck", "-p", p.Device())
	if code := exit(err); err != nil && code != 1 && code != 2 {
		return unreadable(p, d, errors.New(last(said, err)))
	}
	return nil
}

func unreadable(p Partition, d Disk, err error) error {
	return sentence("the state partition %s on the disk %s is damaged: %v", "the boot entry Factory reset begins with an empty one, and loses the appliance's settings and jobs; hyper2kvm.state=ram in the boot entry starts without it, and leaves it as it is", p.Name, d, err)
}

// ext4Resize has ext4 take the whole of a number of blocks.
// Source: kernel, fs/ext4/ext4.h, EXT4_IOC_RESIZE_FS.
const ext4Resize = 0x40086610

// grow has the file system take all of its partition.
func grow(p Partition) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(stateAt, &fs); err != nil || fs.Bsize <= 0 {
		return err
	}
	if p.Size-int64(fs.Blocks)*fs.Bsize < p.Size/16 { // what is missing is its own tables
		return nil
	}
	f, err := os.Open(stateAt)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := resize(f, uint64(p.Size/fs.Bsize)); err != nil {
		say("the state does not take all the room that it has: %v", err)
	}
	return nil
}

// overlay lays a folder of the state over one of the root.
func overlay(name string) error {
	upper, work := filepath.Join(stateAt, name, "upper"), filepath.Join(stateAt, name, "work")
	for _, folder := range []string{upper, work} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return sentence("the state cannot be written: %v", "the disk may be full or failing: the boot entry Factory reset begins with an empty state, on a healthy disk", err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s/%s,upperdir=%s,workdir=%s", newRoot, name, upper, work)
	if err := unix.Mount("overlay", filepath.Join(newRoot, name), "overlay", 0, options); err != nil {
		return fmt.Errorf("lay the state over /%s: %w", name, err)
	}
	return nil
}

func bind(from, to string) error {
	for _, folder := range []string{from, to} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	return unix.Mount(from, to, "", unix.MS_BIND, "")
}
