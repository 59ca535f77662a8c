//go:build appliance

package libguestfs

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
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

// Xattrs are the extended attributes of name itself.
func (g *engine) Xattrs(name string) (map[string][]byte, error) {
	defer pin(g.handle)()
	list, err := g.handle.Lgetxattrs(cmp.Or(name, "/"))
	if errors.Is(failed("listxattr", name, err), syscall.ENOTSUP) { // FAT
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

// WriteFile replaces a file's content from offset on. It writes in place
// before it cuts, so that blocks which a boot loader knows by number stay.
func (g *engine) WriteFile(name string, offset int64, data []byte) error {
	defer pin(g.handle)()
	_, err := g.regular(name)
	if errors.Is(failed("", name, err), fs.ErrNotExist) {
		err = g.create(name)
	}
	if err != nil {
		return failed("write", name, err)
	}
	return g.change("write", name, func() error {
		at := offset
		for rest := data; len(rest) > 0; {
			n, err := g.handle.Pwrite(name, rest[:min(chunk, len(rest))], at)
			if err != nil {
				return err
			}
			at, rest = at+int64(n), rest[n:]
		}
		return g.handle.Truncate_size(name, at)
	})
}

func (g *engine) create(name string) error {
	if err := g.handle.Write(name, nil); err != nil {
		return err
	}
	return g.handle.Chmod(0o600, name)
}

// Truncate cuts a regular file to size bytes.
func (g *engine) Truncate(name string, size int64) error {
	defer pin(g.handle)()
	if _, err := g.regular(name); err != nil {
		return failed("truncate", name, err)
	}
	return g.change("truncate", name, func() error { return g.handle.Truncate_size(name, size) })
}

// change keeps the capabilities that a write takes from a file.
func (g *engine) change(op, name string, write func() error) error {
	value, getErr := g.handle.Getxattr(name, capability)
	err := write()
	if getErr == nil && err == nil {
		err = g.setXattr(name, capability, value)
	}
	if err != nil {
		return failed(op, name, err)
	}
	return nil
}

// named refuses what names no entry of a folder: the root, or a folder by
// another name.
func named(op, name string) error {
	base := path.Base(strings.TrimRight(name, "/"))
	if base == "." || base == ".." {
		return failed(op, name, syscall.EBUSY)
	}
	return nil
}

func wrap(op, name string, err error) error {
	if err != nil {
		return failed(op, name, err)
	}
	return nil
}

// Mkdir makes a folder.
func (g *engine) Mkdir(name string, mode fs.FileMode) error {
	defer pin(g.handle)()
	if err := named("mkdir", name); err != nil {
		return err
	}
	if err := g.handle.Mkdir(name); err != nil {
		return failed("mkdir", name, err)
	}
	return wrap("chmod", name, g.handle.Chmod(int(guest.UnixMode(mode)), name)) // whatever the umask
}

// Symlink makes a symbolic link. libguestfs runs ln for it, outside of the
// guest's root: what stands in the way and links in name are looked at here.
func (g *engine) Symlink(target, name string) error {
	defer pin(g.handle)()
	if err := named("symlink", name); err != nil {
		return err
	}
	at, err := guest.NewView(g).Resolve(path.Dir(strings.TrimRight(name, "/")))
	if err != nil {
		return failed("symlink", name, err)
	}
	if _, err := g.Lstat(at); err != nil {
		return err
	}
	at = path.Join(at, path.Base(name))
	_, err = g.Lstat(at)
	switch {
	case err == nil:
		return failed("symlink", name, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return wrap("symlink", name, g.handle.Ln_s(target, at))
}

// Remove removes a file, a symbolic link or an empty folder.
func (g *engine) Remove(name string) error {
	defer pin(g.handle)()
	if err := named("remove", name); err != nil {
		return err
	}
	info, err := g.Lstat(name)
	if err != nil {
		return err
	}
	if info.Mode.IsDir() {
		return wrap("remove", name, g.handle.Rmdir(name))
	}
	return wrap("remove", name, g.handle.Rm(name))
}

// SetMeta sets owner, mode, extended attributes and modification time of name
// itself; libguestfs has no way to set the time of a symbolic link. The order
// matters: a change of owner takes set-id bits and capabilities away, and
// everything moves times.
func (g *engine) SetMeta(name string, m guest.Meta) error {
	defer pin(g.handle)()
	name = cmp.Or(name, "/")
	info, err := g.Lstat(name)
	if err != nil {
		return err
	}
	if err := storable(m.Xattrs); err != nil {
		return failed("setxattr", name, err)
	}
	if err := g.handle.Lchown(int(int32(m.UID)), int(int32(m.GID)), name); err != nil {
		return failed("chown", name, err)
	}
	if err := g.setXattrs(name, m.Xattrs); err != nil {
		return failed("setxattr", name, err)
	}
	if info.Mode&fs.ModeSymlink != 0 {
		return nil
	}
	if err := g.handle.Chmod(int(guest.UnixMode(m.Mode)), name); err != nil {
		return failed("chmod", name, err)
	}
	if m.MTime.IsZero() {
		return nil
	}
	const omit = -2 // utimens: leave the time of access
	return wrap("utimens", name, g.handle.Utimens(name, 0, omit, m.MTime.Unix(), int64(m.MTime.Nanosecond())))
}
