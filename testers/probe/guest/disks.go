package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hyper2kvm/testers/probe/wire"
)

// virtual are the block devices that are no disks, by the start of their names.
var virtual = []string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"}

// disks are the disks that the kernel found.
func (s system) disks() ([]wire.Disk, error) {
	entries, err := os.ReadDir(s.root + "/sys/block")
	if err != nil {
		return nil, err
	}
	var disks []wire.Disk
	for _, e := range entries {
		name := e.Name()
		isVirtual := slices.ContainsFunc(virtual, func(v string) bool { return strings.HasPrefix(name, v) })
		if isVirtual || len(disks) == maxItems {
			continue
		}
		sectors, err := strconv.ParseInt(s.read("/sys/block/"+name+"/size"), 10, 64)
		if err != nil {
			return disks, fmt.Errorf("size of %s: %w", name, err)
		}
		// The kernel counts sectors of 512 bytes, whatever the disk's are.
		disks = append(disks, wire.Disk{Name: name, Size: sectors * 512, Serial: s.serial(name), Drivers: s.drivers("/sys/block/" + name + "/device")})
	}
	return disks, nil
}

// serial is a disk's serial number: virtio's and NVMe's own file, SCSI's unit
// serial number page, or what udev found out (ATA).
func (s system) serial(disk string) string {
	for _, file := range []string{"/serial", "/device/serial"} {
		if serial := s.read("/sys/block/" + disk + file); serial != "" {
			return serial
		}
	}
	// SPC: 4 bytes of header, the last of them the length.
	if page, err := s.readAll("/sys/block/" + disk + "/device/vpd_pg80"); err == nil && len(page) > 4 {
		return printable(page[4:])
	}
	udev, err := s.readAll("/run/udev/data/b" + s.read("/sys/block/"+disk+"/dev"))
	if err != nil {
		return ""
	}
	for _, key := range []string{"E:ID_SCSI_SERIAL=", "E:ID_SERIAL_SHORT="} {
		for line := range strings.Lines(string(udev)) {
			if serial, ok := strings.CutPrefix(line, key); ok {
				return strings.TrimSpace(cut(serial))
			}
		}
	}
	return ""
}

func printable(b []byte) string {
	return cut(strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b))))
}

// drivers is the chain of drivers from a device up to its root port.
func (s system) drivers(device string) []string {
	dir, err := filepath.EvalSymlinks(s.root + device)
	if err != nil {
		return nil
	}
	var chain []string
	for top := s.root + "/sys/devices"; strings.HasPrefix(dir, top+"/"); dir = filepath.Dir(dir) {
		if driver, err := os.Readlink(dir + "/driver"); err == nil {
			chain = append(chain, filepath.Base(driver))
		}
	}
	return chain
}

// rootFS is what is mounted at / and whether it can be written to.
func (s system) rootFS() (wire.Root, error) {
	table, err := s.readUpTo("/proc/self/mountinfo", maxMountinfo)
	if err != nil {
		return wire.Root{}, err
	}
	root, device, err := rootMount(string(table))
	if err != nil {
		return root, err
	}
	if err := s.write(); err != nil {
		root.WriteErr = cut(err.Error())
	}
	root.Writable = root.WriteErr == ""
	var st unix.Statfs_t
	if err := unix.Statfs(s.root+"/", &st); err != nil {
		return root, err
	}
	root.Size = int64(st.Blocks) * int64(st.Frsize)
	// btrfs has a device number of its own; its source is the disk's.
	if strings.HasPrefix(device, "0:") && strings.HasPrefix(root.Source, "/dev/") {
		if device, err = s.number(root.Source); err != nil {
			return root, err
		}
	}
	root.UUID = s.uuid(device, root.Source)
	root.Disks, err = s.beneath("/sys/dev/block/"+device, 8)
	return root, err
}

// rootMount finds the mount that covers / and its device number.
// Source: proc_pid_mountinfo(5).
func rootMount(table string) (root wire.Root, device string, err error) {
	for line := range strings.Lines(table) {
		before, after, ok := strings.Cut(line, " - ")
		f, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(super) < 3 || f[4] != "/" {
			continue
		}
		root = wire.Root{Source: cut(super[1]), Type: cut(super[0]), Options: cut(f[5] + ";" + super[2]), Subvolume: subvolume(super)}
		device = f[2]
	}
	if device == "" {
		return root, "", errors.New("nothing is mounted at /")
	}
	return root, device, nil
}

// write writes a file to the root file system and to its disk.
func (s system) write() error {
	f, err := os.CreateTemp(s.root+"/", ".hyper2kvm-probe-")
	if err != nil {
		return err
	}
	_, err = f.WriteString("written by the boot proof\n")
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

// beneath are the disks that a block device lies on: through partitions,
// device-mapper and md.
func (s system) beneath(device string, depth int) ([]string, error) {
	dir, err := filepath.EvalSymlinks(s.root + device)
	if err != nil {
		return nil, err
	}
	slaves, err := os.ReadDir(dir + "/slaves")
	if depth == 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s: not followed to its disks", device), err)
	}
	if len(slaves) == 0 {
		if _, err := os.Stat(dir + "/partition"); err == nil {
			dir = filepath.Dir(dir)
		}
		return []string{filepath.Base(dir)}, nil
	}
	var disks []string
	for _, e := range slaves {
		more, err := s.beneath(strings.TrimPrefix(dir, s.root)+"/slaves/"+e.Name(), depth-1)
		if err != nil {
			return disks, err
		}
		disks = append(disks, more...)
	}
	slices.Sort(disks)
	return slices.Compact(disks), nil
}
