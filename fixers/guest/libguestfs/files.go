//go:build appliance

package libguestfs

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"syscall"
	"time"

	"libguestfs.org/guestfs"

	"hyper2kvm/fixers/guest"
)

// failed is an error as callers expect it. libguestfs carries the number of
// the guest's error through; a name below something that is not a folder is a
// name of nothing.
func failed(op, name string, err error) error {
	if e, ok := errors.AsType[*guestfs.GuestfsError](err); ok && e.Errno != 0 {
		err = e.Errno
	}
	if errors.Is(err, syscall.ENOTDIR) && op != "readdir" {
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// chunk is how much is asked for in one call; a message holds at most 4 MiB.
const chunk = 2 << 20

// regular checks that name leads to a regular file before it is opened:
// opening a pipe would hang the virtual machine's daemon.
func (g *engine) regular(name string) (*guestfs.StatNS, error) {
	st, err := g.handle.Statns(cmp.Or(name, "/"))
	if err != nil {
		return nil, err
	}
	if st.St_mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, guest.ErrNotRegular
	}
	return st, nil
}

// ReadFile reads a regular file of at most limit bytes.
func (g *engine) ReadFile(name string, limit int64) ([]byte, error) {
	defer pin(g.handle)()
	st, err := g.regular(name)
	if err != nil {
		return nil, failed("open", name, err)
	}
	if st.St_size > limit {
		return nil, failed("read", name, guest.ErrTooBig)
	}
	data := make([]byte, 0, st.St_size)
	for int64(len(data)) < st.St_size {
		part, err := g.handle.Pread(name, int(min(chunk, st.St_size-int64(len(data)))), int64(len(data)))
		if err != nil {
			return nil, failed("read", name, err)
		}
		if len(part) == 0 {
			return nil, failed("read", name, io.ErrUnexpectedEOF)
		}
		data = append(data, part...)
	}
	return data, nil
}

// Space tells of a file system what its free blocks are, those kept for root
// included.
func (g *engine) Space(name string) (guest.Space, error) {
	defer pin(g.handle)()
	sf, err := g.handle.Statvfs(cmp.Or(name, "/"))
	if err != nil {
		return guest.Space{}, failed("statfs", name, err)
	}
	on, err := guest.DeviceOf(g, g.mounts, name)
	if err != nil {
		return guest.Space{}, failed("statfs", name, err)
	}
	return guest.Space{Filesystem: on, Free: sf.Bfree * sf.Frsize}, nil
}

// Lstat describes name itself.
func (g *engine) Lstat(name string) (guest.Info, error) {
	defer pin(g.handle)()
	st, err := g.handle.Lstatns(cmp.Or(name, "/"))
	if err != nil {
		return guest.Info{}, failed("lstat", name, err)
	}
	return infoOf(path.Base(name), *st), nil
}

func infoOf(base string, st guestfs.StatNS) guest.Info {
	info := guest.Info{Name: base, Mode: guest.FileMode(uint32(st.St_mode)), UID: int(st.St_uid), GID: int(st.St_gid),
		MTime: time.Unix(st.St_mtime_sec, st.St_mtime_nsec)}
	if info.Mode.IsRegular() || info.Mode&fs.ModeSymlink != 0 {
		info.Size = st.St_size
	}
	return info
}

// ReadDir lists a folder, sorted by name.
func (g *engine) ReadDir(name string) ([]guest.Info, error) {
	defer pin(g.handle)()
	name = cmp.Or(name, "/")
	entries, err := g.handle.Readdir(name)
	if err != nil {
		return nil, failed("readdir", name, err)
	}
	names := make([]string, 0, len(*entries))
	for _, e := range *entries {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
	}
	if len(names) > guest.MaxEntries {
		return nil, failed("readdir", name, guest.ErrTooBig)
	}
	slices.Sort(names)
	stats, err := g.handle.Lstatnslist(name, names)
	if err != nil {
		return nil, failed("readdir", name, err)
	}
	list := make([]guest.Info, len(names))
	for i, st := range *stats {
		if st.St_ino == -1 {
			return nil, failed("lstat", path.Join(name, names[i]), fs.ErrNotExist)
		}
		list[i] = infoOf(names[i], st)
	}
	return list, nil
}

// Readlink is a symbolic link's target.
func (g *engine) Readlink(name string) (string, error) {
	defer pin(g.handle)()
	target, err := g.handle.Readlink(cmp.Or(name, "/"))
	if err != nil {
		return "", failed("readlink", name, err)
	}
	return target, nil
}

// onNTFS tells whether a file is on NTFS, which is shown without attributes: ntfs-3g
// answers for their list that it is not valid.
func (g *engine) onNTFS(name string) bool {
	device, err := guest.DeviceOf(g, g.mounts, name)
	f, _ := g.filesystem(device)
	return err == nil && f.Type == "ntfs"
}

// Xattrs are the extended attributes of name itself.
func (g *engine) Xattrs(name string) (map[string][]byte, error) {
	defer pin(g.handle)()
	list, err := g.handle.Lgetxattrs(cmp.Or(name, "/"))
	if why := failed("listxattr", name, err); errors.Is(why, syscall.ENOTSUP) || errors.Is(why, syscall.EINVAL) && g.onNTFS(name) { // the first is FAT's answer
		return nil, nil
	}
	if err != nil {
		return nil, failed("listxattr", name, err)
	}
	xattrs := map[string][]byte{}
	for _, x := range *list {
		if !guest.IsTwin(x.Attrname) {
			xattrs[x.Attrname] = append([]byte{}, x.Attrval...)
		}
	}
	if len(xattrs) == 0 {
		return nil, nil
	}
	return xattrs, nil
}
