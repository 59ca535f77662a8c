//go:build appliance

package libguestfs

import (
	"errors"
	"fmt"
	"io"

	"libguestfs.org/guestfs"

	"hyper2kvm/fixers/guest"
)

// readTopology asks the appliance what lies on the disks.
func (g *engine) readTopology() error {
	devices, err := g.handle.List_devices()
	if err != nil {
		return err
	}
	for i, device := range devices {
		g.labelled[fmt.Sprintf("disk%d", i)] = "/dev/disk/guestfs/" + label(i)
		disk, err := g.readDisk(device, fmt.Sprintf("disk%d", i))
		if err != nil {
			return fmt.Errorf("disk%d: %w", i, err)
		}
		g.topology.Disks = append(g.topology.Disks, disk)
	}
	if err := g.topology.ReadVolumes(g.reader, g.openVolume); err != nil {
		return err
	}
	return errors.Join(g.topology.ReadSpans(g.reader), g.topology.ReadSubvolumes(g.reader))
}

// reader reads a device of the topology.
func (g *engine) reader(device string) io.ReaderAt { return raw{g.handle, g.devices[device]} }

func (g *engine) readDisk(device, name string) (disk guest.Disk, err error) {
	size, err := g.handle.Blockdev_getsize64(device)
	if err != nil {
		return disk, err
	}
	disk, err = guest.ReadTable(raw{g.handle, device}, size)
	if errors.Is(err, guest.ErrTable) {
		g.log.Warn("the partition table is not usable", "disk", name, "err", err)
	} else if err != nil {
		return disk, err
	}
	disk.Name = name
	g.devices[name] = device
	for i := range disk.Partitions {
		p := &disk.Partitions[i]
		p.Name = fmt.Sprintf("%sp%d", name, p.Number)
		g.devices[p.Name] = fmt.Sprintf("%s%d", device, p.Number)
		g.labelled[p.Name] = fmt.Sprintf("%s%d", g.labelled[name], p.Number)
		if disk.Table == "mbr" && guest.IsExtended(p.Type) {
			continue
		}
		if _, err := g.identify(p.Name, p.Size); err != nil {
			return disk, err
		}
	}
	if len(disk.Partitions) == 0 {
		found, err := g.identify(name, disk.Size)
		if err != nil {
			return disk, err
		}
		if found { // a boot sector that looked like an empty table
			disk.Table, disk.ID = "", ""
		}
	}
	return disk, nil
}

// raw reads a device's bytes.
type raw struct {
	handle *guestfs.Guestfs
	device string
}

// ReadAt reads in parts that fit into a message.
func (r raw) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		data, err := r.handle.Pread_device(r.device, min(chunk, len(p)-n), off+int64(n))
		if err != nil {
			return n, err
		}
		if len(data) == 0 {
			return n, io.ErrUnexpectedEOF
		}
		n += copy(p[n:], data)
	}
	return n, nil
}

// identify adds what a device holds to the topology, if that is known.
func (g *engine) identify(name string, size int64) (bool, error) {
	device := g.devices[name]
	fstype, err := g.handle.Vfs_type(device)
	if err != nil || fstype == "" {
		return false, err
	}
	uuid, err := g.handle.Vfs_uuid(device)
	if err != nil {
		return false, err
	}
	label, err := g.handle.Vfs_label(device)
	if err != nil {
		return false, err
	}
	g.topology.Filesystems = append(g.topology.Filesystems, guest.Filesystem{Device: name, Type: fstype, UUID: uuid, Label: label, Size: size})
	return true, nil
}
