package tree

import (
	"bytes"
	"io/fs"
	"syscall"
	"time"

	"hyper2kvm/fixers/guest"
)

// WriteFile replaces a file's content from offset on.
func (f *FS) WriteFile(name string, offset int64, data []byte) error {
	dir, base, err := f.walk("write", name, true)
	if err != nil {
		return err
	}
	n, ok := dir.child(base)
	if !ok {
		if err := dir.writable("write", name); err != nil {
			return err
		}
		n = newNode(0o600)
		dir.add(base, n)
	}
	if !n.info.Mode.IsRegular() {
		return failed("write", name, guest.ErrNotRegular)
	}
	if err := n.writable("write", name); err != nil {
		return err
	}
	n.resize(offset)
	if len(data) > 0 {
		n.data = append(n.content(), data...)
		n.info.Size += int64(len(data))
	}
	return nil
}

// content is a copy of all the data, holes filled.
func (n *node) content() []byte {
	data := make([]byte, n.info.Size)
	copy(data, n.data)
	return data
}

func (n *node) resize(size int64) {
	n.data = bytes.Clone(n.data[:min(size, int64(len(n.data)))])
	n.info.Size, n.info.MTime = size, time.Now()
}

func (n *node) add(base string, kid *node) {
	kid.info.MTime = time.Now()
	n.kids[base] = kid
	n.info.MTime = kid.info.MTime
}

// Truncate cuts a regular file to size bytes.
func (f *FS) Truncate(name string, size int64) error {
	n, err := f.regular("truncate", name)
	if err == nil {
		err = n.writable("truncate", name)
	}
	if err != nil {
		return err
	}
	n.resize(size)
	return nil
}

// create puts a new node at name, where nothing may stand.
func (f *FS) create(op, name string, n *node) error {
	dir, base, err := f.walk(op, name, false)
	if err != nil {
		return err
	}
	if _, ok := dir.child(base); ok {
		return failed(op, name, fs.ErrExist)
	}
	if err := dir.writable(op, name); err != nil {
		return err
	}
	dir.add(base, n)
	return nil
}

// Mkdir makes a folder.
func (f *FS) Mkdir(name string, mode fs.FileMode) error {
	return f.create("mkdir", name, newNode(fs.ModeDir|mode&guest.ModeBits))
}

// Symlink makes a symbolic link.
func (f *FS) Symlink(target, name string) error {
	if target == "" {
		return failed("symlink", name, fs.ErrNotExist)
	}
	n := newNode(fs.ModeSymlink | fs.ModePerm)
	n.target = target
	return f.create("symlink", name, n)
}

// Pipe makes a named pipe: something that is neither file nor folder.
func (f *FS) Pipe(name string) error {
	return f.create("mkfifo", name, newNode(fs.ModeNamedPipe|0o600))
}

// Link makes name a hard link to the file at old.
func (f *FS) Link(old, name string) error {
	n, err := f.at("link", old, false)
	if err != nil {
		return err
	}
	if n.info.Mode.IsDir() {
		return failed("link", old, fs.ErrPermission)
	}
	mtime := n.info.MTime
	err = f.create("link", name, n)
	n.info.MTime = mtime
	return err
}

// Remove removes a file, a symbolic link or an empty folder.
func (f *FS) Remove(name string) error {
	dir, base, err := f.walk("remove", name, false)
	if err != nil {
		return err
	}
	n, ok := dir.kids[base]
	switch {
	case base == ".":
		return failed("remove", name, syscall.EBUSY)
	case !ok:
		return failed("remove", name, fs.ErrNotExist)
	case n.over != nil:
		return failed("remove", name, syscall.EBUSY)
	case len(n.kids) > 0:
		return failed("remove", name, syscall.ENOTEMPTY)
	}
	if err := dir.writable("remove", name); err != nil {
		return err
	}
	delete(dir.kids, base)
	dir.info.MTime = time.Now()
	return nil
}

// SetMeta sets owner, mode, extended attributes and modification time of name
// itself; a symbolic link's mode stays.
func (f *FS) SetMeta(name string, m guest.Meta) error {
	n, err := f.at("setmeta", name, false)
	if err == nil {
		err = n.writable("setmeta", name)
	}
	if err != nil {
		return err
	}
	n.info.UID, n.info.GID = m.UID, m.GID
	if n.target == "" {
		n.info.Mode = n.info.Mode.Type() | m.Mode&guest.ModeBits
	}
	n.xattrs = clone(m.Xattrs)
	if !m.MTime.IsZero() {
		n.info.MTime = m.MTime
	}
	return nil
}

var _ guest.Guest = (*FS)(nil)
