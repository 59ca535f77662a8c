package files

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// regular opens a regular file. It looks before it opens, since opening a device or
// a pipe can do things; nobody else changes the guest's names between the two.
func (r *Root) regular(name string, flags uint64) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.open(name, unix.O_PATH)
	if err != nil {
		return nil, st, err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, st, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, guest.ErrNotRegular
	}
	opened, err := r.open(name, flags|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, st, err
	}
	return os.NewFile(uintptr(opened), name), st, nil
}

// piece tells of a file's bytes that are in the window.
type piece struct {
	Size   int64 // of the file
	Length int   // of the piece
}

// readPiece reads of a regular file of at most limit bytes those from an offset on.
func (r *Root) readPiece(name string, offset, limit int64) (piece, error) {
	f, st, err := r.regular(name, unix.O_RDONLY)
	if err != nil {
		return piece{}, Failed("open", name, err)
	}
	defer f.Close()
	if st.Size > limit {
		return piece{}, Failed("read", name, guest.ErrTooBig)
	}
	p := piece{st.Size, int(max(0, min(windowSize, st.Size-offset)))}
	if _, err := io.ReadFull(io.NewSectionReader(f, offset, int64(p.Length)), r.window.bytes[:p.Length]); err != nil {
		return piece{}, Failed("read", name, err)
	}
	return p, nil
}

// Lstat describes name itself.
func (r *Root) Lstat(name string) (guest.Info, error) {
	fd, st, err := r.itself(name)
	if err != nil {
		return guest.Info{}, Failed("lstat", name, err)
	}
	return infoOf(path.Base(name), st), unix.Close(fd)
}

func infoOf(base string, st unix.Stat_t) guest.Info {
	return guest.Info{Name: base, Mode: guest.FileMode(st.Mode), UID: int(st.Uid), GID: int(st.Gid), Size: sizeOf(st),
		MTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec)}
}

// sizeOf is a file's or a link's size: that of a folder says nothing.
func sizeOf(st unix.Stat_t) int64 {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		return st.Size
	}
	return 0
}

// ReadDir lists a folder, sorted by name.
func (r *Root) ReadDir(name string) ([]guest.Info, error) {
	fd, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, Failed("readdir", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(guest.MaxEntries + 1)
	if err != nil && err != io.EOF {
		return nil, Failed("readdir", name, err)
	}
	if len(names) > guest.MaxEntries {
		return nil, Failed("readdir", name, guest.ErrTooBig)
	}
	slices.Sort(names)
	list := make([]guest.Info, len(names))
	for i, base := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, Failed("lstat", path.Join(name, base), err)
		}
		list[i] = infoOf(base, st)
	}
	return list, nil
}

// Readlink is a symbolic link's target.
func (r *Root) Readlink(name string) (string, error) {
	fd, st, err := r.itself(name)
	if err != nil {
		return "", Failed("readlink", name, err)
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", Failed("readlink", name, unix.EINVAL)
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err != nil {
		return "", Failed("readlink", name, err)
	}
	return string(target[:n]), nil
}

// Xattrs are the extended attributes of name itself.
func (r *Root) Xattrs(name string) (map[string][]byte, error) {
	fd, _, err := r.itself(name)
	if err != nil {
		return nil, Failed("listxattr", name, err)
	}
	defer unix.Close(fd)
	xattrs, err := r.xattrsOf(fd)
	if err != nil {
		return nil, Failed("listxattr", name, err)
	}
	return xattrs, nil
}

// Space tells of a file system what its free blocks are, those kept for root
// included. The file system is named by the mount, since each subvolume of a btrfs has
// a device number of its own, mounted or not.
func (r *Root) Space(name string) (guest.Space, error) {
	fd, err := r.open(name, unix.O_PATH)
	if err != nil {
		return guest.Space{}, Failed("statfs", name, err)
	}
	defer unix.Close(fd)
	on, err := MountID(fd)
	if err != nil {
		return guest.Space{}, Failed("statfs", name, err)
	}
	var sf unix.Statfs_t
	if err := unix.Fstatfs(fd, &sf); err != nil {
		return guest.Space{}, Failed("statfs", name, err)
	}
	return guest.Space{Filesystem: on, Free: int64(sf.Bfree) * sf.Bsize}, nil
}

// MountID is the number of the mount that a descriptor is on.
//
// Source: statx(2), STATX_MNT_ID, Linux 5.8.
func MountID(fd int) (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return "", err
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return "", fmt.Errorf("this kernel tells no mounts apart: %w", unix.EOPNOTSUPP)
	}
	return strconv.FormatUint(st.Mnt_id, 10), nil
}
