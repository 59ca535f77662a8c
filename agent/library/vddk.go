package library

import (
	"archive/tar"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bounds of a VDDK, which has some 100 files and 100 MiB.
const (
	MaxUpload   = 2 << 30 // bytes of what is uploaded, of either library
	maxEntries  = 5000
	maxUnpacked = 2 << 30 // bytes
)

// distrib is the folder that all of a VDDK is in, and its library's in that.
//
// Source: nbdkit-vddk-plugin(1), "INSTALLATION"; the layout of
// VMware-vix-disklib-VERSION.x86_64.tar.gz.
const (
	distrib = "vmware-vix-disklib-distrib"
	lib64   = distrib + "/lib64"
)

// ours matches the file with VDDK's library; its name ends with the version.
var ours = regexp.MustCompile(`^` + lib64 + `/libvixDiskLib\.so\.([0-9]{1,4}(?:\.[0-9]{1,4}){0,3})$`)

// putVDDK unpacks a VDDK. Nothing that it holds can lead out of the folder or be run with
// another's rights, and its library is one for this kind of machine; that it works is
// seen when nbdkit loads it.
func putVDDK(from *os.File, into *os.Root) (version string, holds []string, err error) {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return "", nil, err
	}
	packed, err := gzip.NewReader(from)
	if err != nil {
		return "", nil, refused("it is no tar.gz: upload VMware-vix-disklib-VERSION.x86_64.tar.gz as VMware ships it")
	}
	u := &unpacker{into: into, links: map[string]string{}, left: maxUnpacked}
	if err := u.all(tar.NewReader(packed)); err != nil {
		return "", nil, err
	}
	if u.library == "" {
		return "", nil, refused("it holds no %s/libvixDiskLib.so.N, so it is no VDDK for Linux", lib64)
	}
	version = ours.FindStringSubmatch(u.library)[1]
	soname, err := libraryOf(into, u.library)
	if err != nil {
		return "", nil, err
	}
	return version, []string{path.Base(u.library), "soname " + soname}, nil
}

// unpacker takes an archive apart that nobody has looked at.
type unpacker struct {
	into    *os.Root
	links   map[string]string // made at last, so that nothing is written through one
	left    int64             // bytes that may still come
	entries int
	library string // the file with the longest version in its name
}

func (u *unpacker) all(in *tar.Reader) error {
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return u.link()
		}
		if err != nil {
			return refused("it cannot be read to its end: %v", err)
		}
		if u.entries++; u.entries > maxEntries {
			return refused("it holds more than %d files", maxEntries)
		}
		if err := u.one(head, in); err != nil {
			return err
		}
	}
}

func (u *unpacker) one(head *tar.Header, in io.Reader) error {
	name := strings.TrimSuffix(strings.TrimPrefix(head.Name, "./"), "/")
	switch {
	case name == "" || name == ".":
		return nil
	case !fs.ValidPath(name) || name != distrib && !strings.HasPrefix(name, distrib+"/") || strings.ContainsRune(name, 0):
		return refused("it holds %.200q, which is not in %s", head.Name, distrib)
	case head.Typeflag == tar.TypeDir:
		return inside(u.into.MkdirAll(name, 0o755))
	case head.Typeflag == tar.TypeSymlink:
		if to := path.Join(path.Dir(name), head.Linkname); path.IsAbs(head.Linkname) || !strings.HasPrefix(to, distrib+"/") {
			return refused("its link %.200q leads out of it", name)
		}
		u.links[name] = head.Linkname
		return nil
	case head.Typeflag == tar.TypeReg:
		return u.file(name, head, in)
	}
	return refused("%.200q is neither a file, a folder nor a link", name)
}

func (u *unpacker) file(name string, head *tar.Header, in io.Reader) (err error) {
	if u.left -= head.Size; head.Size < 0 || u.left < 0 {
		return refused("it unpacks to more than %d bytes", int64(maxUnpacked))
	}
	if err := u.into.MkdirAll(path.Dir(name), 0o755); err != nil {
		return inside(err)
	}
	mode := fs.FileMode(0o644)
	if head.Mode&0o100 != 0 {
		mode = 0o755
	}
	f, err := u.into.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return inside(err)
	}
	if _, err := io.Copy(f, in); err != nil {
		return errors.Join(inside(err), f.Close())
	}
	if ours.MatchString(name) && len(name) > len(u.library) {
		u.library = name
	}
	return errors.Join(f.Sync(), f.Close())
}

// link makes the links.
func (u *unpacker) link() error {
	for name, to := range u.links {
		if err := u.into.MkdirAll(path.Dir(name), 0o755); err != nil {
			return inside(err)
		}
		if err := u.into.Symlink(to, name); err != nil {
			return inside(err)
		}
	}
	return nil
}

// clashes are errors of names that an archive should not hold.
var clashes = []error{unix.EEXIST, unix.ENOTDIR, unix.EISDIR, unix.ENAMETOOLONG, unix.ELOOP, unix.EINVAL}

// inside is an error of making a file that an archive asks for, or of filling it: what
// is the archive's fault is told as such, all else is this appliance's.
func inside(err error) error {
	var system syscall.Errno
	switch {
	case err == nil, errors.As(err, &system) && !slices.Contains(clashes, error(system)):
		return err
	case system == 0:
		return refused("it was cut short: %v", err)
	}
	return refused("it holds two files of one name, or one that cannot be: %v", err)
}

// libraryOf tells the name by which a library is loaded, if it is one for this kind of
// machine.
func libraryOf(into *os.Root, name string) (soname string, err error) {
	f, err := into.Open(name)
	if err != nil {
		return "", err
	}
	soname, err = sonameOf(f, path.Base(name))
	return soname, errors.Join(err, f.Close())
}

func sonameOf(r io.ReaderAt, name string) (string, error) {
	e, err := elf.NewFile(r)
	if err != nil {
		return "", refused("%s is no ELF file: %v", name, err)
	}
	if e.Class != elf.ELFCLASS64 || e.Machine != elf.EM_X86_64 || e.Type != elf.ET_DYN {
		return "", refused("%s is %v for %v, and a shared library of 64 bits for x86-64 is needed", name, e.Type, e.Machine)
	}
	names, err := e.DynString(elf.DT_SONAME)
	if err != nil || len(names) != 1 || !strings.HasPrefix(names[0], "libvixDiskLib.so.") {
		return "", refused("%s calls itself %.100q, and not libvixDiskLib.so.N", name, fmt.Sprint(names))
	}
	return names[0], nil
}
