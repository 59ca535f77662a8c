package direct

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// failed is an error as callers expect it: a name below something that is not
// a folder is a name of nothing.
func failed(op, name string, err error) error {
	if errors.Is(err, unix.ENOTDIR) && op != "readdir" {
		err = fs.ErrNotExist
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// openTries bounds how often the kernel may ask to try again because something
// was renamed anywhere meanwhile: openat2(2), EAGAIN.
const openTries = 1000

// openIn opens a name as if root were "/".
func openIn(root int, name string, flags uint64, mode uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Mode: mode, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range openTries {
		fd, err = unix.Openat2(root, cmp.Or(name, "/"), &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}

func (g *engine) open(name string, flags uint64) (int, error) {
	if len(g.mounts.list) == 0 {
		return -1, errors.New("nothing is mounted")
	}
	return openIn(int(g.mounts.list[0].folder.Fd()), name, flags, 0)
}

// procName is a path to what a descriptor stands for, links included, for
// system calls that take no descriptor.
func procName(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// regular opens a regular file. It looks before it opens: opening a device or
// a pipe can do things.
func (g *engine) regular(name string, flags int) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := g.open(name, unix.O_PATH)
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
	f, err := os.OpenFile(procName(fd), flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	return f, st, err
}

// ReadFile reads a regular file of at most limit bytes.
func (g *engine) ReadFile(name string, limit int64) ([]byte, error) {
	f, st, err := g.regular(name, os.O_RDONLY)
	if err != nil {
		return nil, failed("open", name, err)
	}
	defer f.Close()
	if st.Size > limit {
		return nil, failed("read", name, guest.ErrTooBig)
	}
	data := make([]byte, st.Size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, failed("read", name, err)
	}
	return data, nil
}

// itself opens name for its metadata, a link as a link.
func (g *engine) itself(name string) (int, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := g.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return -1, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, st, errors.Join(err, unix.Close(fd))
	}
	return fd, st, nil
}

// Lstat describes name itself.
func (g *engine) Lstat(name string) (guest.Info, error) {
	fd, st, err := g.itself(name)
	if err != nil {
		return guest.Info{}, failed("lstat", name, err)
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
func (g *engine) ReadDir(name string) ([]guest.Info, error) {
	fd, err := g.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, failed("readdir", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(guest.MaxEntries + 1)
	if err != nil && err != io.EOF {
		return nil, failed("readdir", name, err)
	}
	if len(names) > guest.MaxEntries {
		return nil, failed("readdir", name, guest.ErrTooBig)
	}
	slices.Sort(names)
	list := make([]guest.Info, len(names))
	for i, base := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, failed("lstat", path.Join(name, base), err)
		}
		list[i] = infoOf(base, st)
	}
	return list, nil
}

// Readlink is a symbolic link's target.
func (g *engine) Readlink(name string) (string, error) {
	fd, st, err := g.itself(name)
	if err != nil {
		return "", failed("readlink", name, err)
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", failed("readlink", name, unix.EINVAL)
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", target)
	if err != nil {
		return "", failed("readlink", name, err)
	}
	return string(target[:n]), nil
}

// Xattrs are the extended attributes of name itself.
func (g *engine) Xattrs(name string) (map[string][]byte, error) {
	fd, _, err := g.itself(name)
	if err != nil {
		return nil, failed("listxattr", name, err)
	}
	defer unix.Close(fd)
	xattrs, err := xattrsOf(fd)
	if err != nil {
		return nil, failed("listxattr", name, err)
	}
	return xattrs, nil
}

// Space tells of a file system what its free blocks are, those kept for root
// included.
func (g *engine) Space(name string) (guest.Space, error) {
	fd, err := g.open(name, unix.O_PATH)
	if err != nil {
		return guest.Space{}, failed("statfs", name, err)
	}
	defer unix.Close(fd)
	var sf unix.Statfs_t
	on, err := g.mounts.on(fd)
	if err := errors.Join(err, unix.Fstatfs(fd, &sf)); err != nil {
		return guest.Space{}, failed("statfs", name, err)
	}
	return guest.Space{Filesystem: on, Free: int64(sf.Bfree) * sf.Bsize}, nil
}

// maxXattr is the most that Linux stores in a list of names, and in a value.
const maxXattr = 64 << 10

func xattrsOf(fd int) (map[string][]byte, error) {
	names := make([]byte, maxXattr)
	n, err := unix.Listxattr(procName(fd), names)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	xattrs := map[string][]byte{}
	value := make([]byte, maxXattr)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if guest.IsTwin(name) {
			continue
		}
		n, err := unix.Getxattr(procName(fd), name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		xattrs[name] = append([]byte{}, value[:n]...)
	}
	if len(xattrs) == 0 {
		return nil, nil
	}
	return xattrs, nil
}

// WriteFile replaces a file's content from offset on. It writes in place
// before it cuts, so that blocks which a boot loader knows by number stay.
func (g *engine) WriteFile(name string, offset int64, data []byte) error {
	f, _, err := g.regular(name, os.O_WRONLY)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = g.create(name)
	}
	if err != nil {
		return failed("write", name, err)
	}
	return g.change("write", name, f, func() error {
		if _, err := f.WriteAt(data, offset); err != nil {
			return err
		}
		return f.Truncate(offset + int64(len(data)))
	})
}

func (g *engine) create(name string) (*os.File, error) {
	fd, err := openIn(int(g.mounts.list[0].folder.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Truncate cuts a regular file to size bytes.
func (g *engine) Truncate(name string, size int64) error {
	f, _, err := g.regular(name, os.O_WRONLY)
	if err != nil {
		return failed("truncate", name, err)
	}
	return g.change("truncate", name, f, func() error { return f.Truncate(size) })
}

// capability is the attribute that the kernel takes from a file that is
// written to; a write of ours keeps it.
const capability = "security.capability"

func (g *engine) change(op, name string, f *os.File, write func() error) error {
	value := make([]byte, maxXattr)
	n, getErr := unix.Fgetxattr(int(f.Fd()), capability, value)
	err := write()
	if getErr == nil && err == nil {
		err = unix.Fsetxattr(int(f.Fd()), capability, value[:n], 0)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return failed(op, name, err)
	}
	return nil
}

// parent opens the folder of name and returns its last element.
func (g *engine) parent(name string) (int, string, error) {
	name = strings.TrimRight(name, "/")
	dir, base := path.Split(name)
	if base == "" || base == "." || base == ".." {
		return -1, "", unix.EBUSY // the root, or a folder by another name
	}
	fd, err := g.open(dir, unix.O_PATH|unix.O_DIRECTORY)
	return fd, base, err
}

// within calls f with the folder of name and the last element.
func (g *engine) within(op, name string, f func(dir int, base string) error) error {
	dir, base, err := g.parent(name)
	if err != nil {
		return failed(op, name, err)
	}
	defer unix.Close(dir)
	if err := f(dir, base); err != nil {
		return failed(op, name, err)
	}
	return nil
}

// Mkdir makes a folder.
func (g *engine) Mkdir(name string, mode fs.FileMode) error {
	return g.within("mkdir", name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, 0o700); err != nil {
			return err
		}
		return unix.Fchmodat(dir, base, guest.UnixMode(mode), 0) // whatever the umask
	})
}

// Symlink makes a symbolic link.
func (g *engine) Symlink(target, name string) error {
	return g.within("symlink", name, func(dir int, base string) error { return unix.Symlinkat(target, dir, base) })
}

// Remove removes a file, a symbolic link or an empty folder.
func (g *engine) Remove(name string) error {
	return g.within("remove", name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if err == unix.EISDIR || err == unix.EPERM {
			return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	})
}

// SetMeta sets owner, mode, extended attributes and modification time of name
// itself; a symbolic link has no mode of its own. The order matters: a change
// of owner takes set-id bits and capabilities away, and everything moves times.
func (g *engine) SetMeta(name string, m guest.Meta) error {
	fd, st, err := g.itself(name)
	if err != nil {
		return failed("setmeta", name, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchownat(fd, "", m.UID, m.GID, unix.AT_EMPTY_PATH); err != nil {
		return failed("chown", name, err)
	}
	if err := setXattrs(fd, m.Xattrs); err != nil {
		return failed("setxattr", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(unix.AT_FDCWD, procName(fd), guest.UnixMode(m.Mode), 0); err != nil {
			return failed("chmod", name, err)
		}
	}
	if m.MTime.IsZero() {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(m.MTime.UnixNano())}
	if err := unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH); err != nil {
		return failed("utimens", name, err)
	}
	return nil
}

// setXattrs makes a file's attributes exactly these.
func setXattrs(fd int, want map[string][]byte) error {
	have, err := xattrsOf(fd)
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := want[name]; ok {
			continue
		}
		if err := unix.Removexattr(procName(fd), name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, value := range want {
		if old, ok := have[name]; ok && bytes.Equal(old, value) {
			continue
		}
		if err := unix.Setxattr(procName(fd), name, value, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
