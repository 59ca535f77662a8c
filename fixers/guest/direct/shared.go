package direct

import (
	"fmt"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// shared is the device of a file system that may be mounted at several folders. The
// kernel must know a file system by one device alone: behind another it would be
// another file system, on the same blocks.
type shared struct {
	device
	name string // of the topology
	uses int
}

// share makes a device of what a file system lies on, or takes that which it has.
func (g *engine) share(f guest.Filesystem) (*shared, error) {
	for _, m := range g.mounts.list {
		if m.device.name == f.Device {
			m.device.uses++
			return m.device, nil
		}
	}
	d, err := g.attach(f)
	return &shared{d, f.Device, 1}, err
}

// detach lets go of the device when nobody else uses it.
func (s *shared) detach() error {
	if s.uses--; s.uses > 0 {
		return nil
	}
	return s.device.detach()
}

// on is the file system that an open file is on, by the topology's name: each
// subvolume of a btrfs has a device number of its own, mounted or not.
func (m *mounts) on(fd int) (string, error) {
	id, err := mountID(fd)
	if err != nil {
		return "", err
	}
	for _, l := range m.list {
		other, err := mountID(int(l.folder.Fd()))
		if err != nil {
			return "", err
		}
		if other == id {
			return l.device.name, nil
		}
	}
	return "", fmt.Errorf("mount %d is none of ours", id)
}

// mountID tells mounts apart. Source: statx(2), STATX_MNT_ID, Linux 5.8.
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, fmt.Errorf("this kernel tells no mounts apart: %w", unix.EOPNOTSUPP)
	}
	return st.Mnt_id, nil
}
