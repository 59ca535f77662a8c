package files

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// SetMeta sets owner, mode, extended attributes and modification time of name
// itself; a symbolic link has no mode of its own. The order matters: a change
// of owner takes set-id bits and capabilities away, and everything moves times.
func (r *Root) SetMeta(name string, m guest.Meta) error {
	fd, st, err := r.itself(name)
	if err != nil {
		return Failed("setmeta", name, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchownat(fd, "", m.UID, m.GID, unix.AT_EMPTY_PATH); err != nil {
		return Failed("chown", name, err)
	}
	if err := r.setXattrs(fd, m.Xattrs); err != nil {
		return Failed("setxattr", name, err)
	}
	if err := r.chmod(name, st, guest.UnixMode(m.Mode)); err != nil {
		return Failed("chmod", name, err)
	}
	if m.MTime.IsZero() {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(m.MTime.UnixNano())}
	if err := unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH); err != nil {
		return Failed("utimens", name, err)
	}
	return nil
}

// chmod changes a mode without a path that leads out of the guest: a bare descriptor
// takes none. A folder may be the root, which has no parent to name it in.
func (r *Root) chmod(name string, st unix.Stat_t, mode uint32) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return nil
	case unix.S_IFDIR:
		fd, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		return errors.Join(unix.Fchmod(fd, mode), unix.Close(fd))
	}
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fchmodat(dir, base, mode, 0), unix.Close(dir))
}

// maxXattr is the most that Linux stores in a list of names, and in a value.
const maxXattr = 64 << 10

// maxXattrs bounds all attributes of a file together. Of a usual one they take some
// hundred bytes.
const maxXattrs = 16 << 20

func (r *Root) xattrsOf(fd int) (map[string][]byte, error) {
	names, err := r.attrs.List(fd)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) && byProgram(fd) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var xattrs map[string][]byte
	left := maxXattrs
	for _, name := range names {
		if guest.IsTwin(name) {
			continue
		}
		value, err := r.attrs.Get(fd, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if left -= len(value); left < 0 {
			return nil, guest.ErrTooBig
		}
		if xattrs == nil {
			xattrs = map[string][]byte{}
		}
		xattrs[name] = value
	}
	return xattrs, nil
}

// byProgram tells whether a program shows a file's file system: ntfs-3g, which was told
// to show no attributes, answers for their list that it is not valid.
func byProgram(fd int) bool {
	var s unix.Statfs_t
	return unix.Fstatfs(fd, &s) == nil && s.Type == unix.FUSE_SUPER_MAGIC
}

// setXattrs makes a file's attributes exactly these.
func (r *Root) setXattrs(fd int, want map[string][]byte) error {
	have, err := r.xattrsOf(fd)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := want[name]; ok {
			continue
		}
		if err := r.attrs.Remove(fd, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, value := range want {
		if old, ok := have[name]; ok && bytes.Equal(old, value) {
			continue
		}
		if err := r.attrs.Set(fd, name, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
