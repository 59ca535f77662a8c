package direct

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of device-mapper. They are made without its library and without the
// program dmsetup, which both wait for udev.
//
// Source: Linux include/uapi/linux/dm-ioctl.h; drivers/md/dm-ioctl.c.

// quietUdev goes with the event that tells of a new device: udev's rules shall not
// look into it for file systems, and LVM and md not take it. The library's cookie
// has these flags in its upper half; the lower is for waiting, which nobody does.
//
// Source: LVM2 libdm/libdevmapper.h, DM_UDEV_DISABLE_*: all four kinds of rules.
const quietUdev = 0x000f << 16

// mapperBuffer is the largest answer that is read, a list of some thousand devices.
const mapperBuffer = 256 << 10

// mapperCall is one call on the device of a name, with data behind the head and
// an answer in its place.
func mapperCall(control *os.File, call uintptr, name string, prepare func(*unix.DmIoctl), data []byte) (unix.DmIoctl, []byte, error) {
	buffer := make([]byte, max(unix.SizeofDmIoctl+len(data), mapperBuffer))
	head := (*unix.DmIoctl)(unsafe.Pointer(unsafe.SliceData(buffer)))
	*head = unix.DmIoctl{Version: [3]uint32{unix.DM_VERSION_MAJOR}, Data_size: uint32(len(buffer)), Data_start: unix.SizeofDmIoctl}
	copy(head.Name[:len(head.Name)-1], name)
	if prepare != nil {
		prepare(head)
	}
	copy(buffer[unix.SizeofDmIoctl:], data)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), call, uintptr(unsafe.Pointer(head))); errno != 0 {
		return unix.DmIoctl{}, nil, errno
	}
	if head.Flags&unix.DM_BUFFER_FULL_FLAG != 0 || head.Data_start > uint32(len(buffer)) {
		return unix.DmIoctl{}, nil, unix.ENOBUFS
	}
	return *head, buffer[head.Data_start:], nil
}

// createMapped makes a device without a table.
func createMapped(control *os.File, name string) (dev uint64, err error) {
	head, _, err := mapperCall(control, unix.DM_DEV_CREATE, name, nil, nil)
	if err != nil {
		return 0, fmt.Errorf("device-mapper: create %s: %w", name, err)
	}
	return head.Dev, nil
}

// loadMapped gives a device its table, and lets it be used.
func loadMapped(control *os.File, name string, table []target) error {
	count := func(h *unix.DmIoctl) { h.Target_count = uint32(len(table)) }
	if _, _, err := mapperCall(control, unix.DM_TABLE_LOAD, name, count, encodeTable(table)); err != nil {
		return fmt.Errorf("device-mapper: load the table of %s: %w", name, err)
	}
	quiet := func(h *unix.DmIoctl) { h.Event_nr = quietUdev } // no flag: resume
	if _, _, err := mapperCall(control, unix.DM_DEV_SUSPEND, name, quiet, nil); err != nil {
		return fmt.Errorf("device-mapper: resume %s: %w", name, err)
	}
	return nil
}

// encodeTable writes a table as struct dm_target_spec, each with its parameters
// behind it and padded to 8 bytes.
func encodeTable(table []target) (data []byte) {
	for _, t := range table {
		params := append([]byte(t.params), 0)
		for len(params)%8 != 0 {
			params = append(params, 0)
		}
		data = binary.NativeEndian.AppendUint64(data, uint64(t.start))
		data = binary.NativeEndian.AppendUint64(data, uint64(t.size))
		data = binary.NativeEndian.AppendUint32(data, 0) // status
		data = binary.NativeEndian.AppendUint32(data, uint32(unix.SizeofDmTargetSpec+len(params)))
		kind := [16]byte{}
		copy(kind[:], t.kind)
		data = append(append(data, kind[:]...), params...)
	}
	return data
}

// statusMapped is what each mirror of a device says of itself.
func statusMapped(control *os.File, name string) (status []string, err error) {
	head, data, err := mapperCall(control, unix.DM_TABLE_STATUS, name, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("device-mapper: status of %s: %w", name, err)
	}
	return decodeStatus(data, head.Target_count, mirror), nil
}

// decodeStatus reads struct dm_target_spec, of so many targets, each with its status
// behind it, and keeps that of one kind.
func decodeStatus(data []byte, count uint32, kind string) (status []string) {
	rest := data
	for range count {
		if len(rest) < unix.SizeofDmTargetSpec {
			break
		}
		next := binary.NativeEndian.Uint32(rest[20:])
		if unix.ByteSliceToString(rest[24:unix.SizeofDmTargetSpec]) == kind {
			status = append(status, unix.ByteSliceToString(rest[unix.SizeofDmTargetSpec:]))
		}
		if next > uint32(len(data)) {
			break
		}
		rest = data[next:] // counted from the first
	}
	return status
}

// removeMapped removes a device, at once or when its last user lets go.
func removeMapped(control *os.File, name string) error {
	deferred := func(h *unix.DmIoctl) { h.Flags = unix.DM_DEFERRED_REMOVE; h.Event_nr = quietUdev }
	_, _, err := mapperCall(control, unix.DM_DEV_REMOVE, name, deferred, nil)
	if err != nil && !errors.Is(err, unix.ENXIO) { // it is gone
		return fmt.Errorf("device-mapper: remove %s: %w", name, err)
	}
	return nil
}

func isMapped(control *os.File, name string) (bool, error) {
	_, _, err := mapperCall(control, unix.DM_DEV_STATUS, name, nil, nil)
	if errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	return err == nil, err
}

// listMapped are the names of all devices of device-mapper's.
func listMapped(control *os.File) ([]string, error) {
	_, data, err := mapperCall(control, unix.DM_LIST_DEVICES, "", nil, nil)
	if err != nil {
		return nil, fmt.Errorf("device-mapper: list: %w", err)
	}
	return decodeNames(data), nil
}

// decodeNames reads struct dm_name_list: a device number, the distance to the next
// entry, and a name.
func decodeNames(data []byte) (names []string) {
	const head = 12
	for len(data) > head && binary.NativeEndian.Uint64(data) != 0 {
		next := binary.NativeEndian.Uint32(data[8:])
		names = append(names, unix.ByteSliceToString(data[head:]))
		if next == 0 || next > uint32(len(data)) {
			break
		}
		data = data[next:]
	}
	return names
}
