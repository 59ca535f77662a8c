//go:build appliance

package libguestfs

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"hyper2kvm/fixers/guest"
)

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
