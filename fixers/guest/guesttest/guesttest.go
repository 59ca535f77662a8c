// Package guesttest is the conformance suite of the engines that reach a
// guest's files. What a fixer may rely on is said here once, as tests, and
// every engine passes them.
package guesttest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
)

// Disk is an engine under test. Guests have hard links and pipes, which no
// engine needs to make, so the test of an engine adds two ways to make them.
type Disk interface {
	guest.FS
	Link(old, name string) error
	Pipe(name string) error
}

// Run holds an engine to all that is promised of guest.FS. Each call of open
// returns an empty guest with extended attributes; Clear empties one for reuse.
func Run(t *testing.T, open func(t *testing.T) Disk) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Disk)
	}{
		{"NamesStayInsideTheRoot", namesStayInside},
		{"NamesBelowAFileDoNotExist", namesBelowFiles},
		{"LinksThatLoopAreErrors", loops},
		{"AbsentFilesAreErrNotExist", absent},
		{"ReadsAreLimited", limits},
		{"OnlyRegularFilesAreRead", onlyRegular},
		{"FoldersAreListedInOrder", folders},
		{"AWriteKeepsWhatItDoesNotName", writesKeep},
		{"AWriteAtAnOffsetCutsBehind", offsets},
		{"ALargeFileIsReadAndWritten", large},
		{"TruncateCuts", truncates},
		{"ANewFileIsPrivate", newFiles},
		{"NothingIsReplacedUnasked", collisions},
		{"SpaceIsThatOfTheFileSystem", space},
		{"RemoveTakesFilesLinksAndEmptyFolders", removes},
		{"MetaIsSetWhole", metas},
		{"BinaryAttributesAreKeptOrRefused", binaryAttributes},
		{"AccessListsAreKept", accessLists},
		{"ALinkHasItsOwnMeta", linkMeta},
		{"StrangeNamesAreKept", strangeNames},
		{"WhatIsPlannedIsAppliedAndUndone", roundTrip},
		{"AnAppendIsAppliedAndUndone", appends},
		{"AnInterruptedPlanIsRefused", conflicts},
		{"HardLinksSurviveAnEdit", editsHardLinks},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Clear removes everything from a guest but lost+found.
func Clear(f guest.FS) error {
	list, err := f.ReadDir("/")
	if err != nil {
		return err
	}
	for _, info := range list {
		if info.Name == "lost+found" {
			continue
		}
		if err := removeAll(f, "/"+info.Name, info); err != nil {
			return err
		}
	}
	return nil
}

func removeAll(f guest.FS, name string, info guest.Info) error {
	if info.Mode.IsDir() {
		list, err := f.ReadDir(name)
		if err != nil {
			return err
		}
		for _, kid := range list {
			if err := removeAll(f, path.Join(name, kid.Name), kid); err != nil {
				return err
			}
		}
	}
	return f.Remove(name)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, f guest.FS, name, data string) {
	t.Helper()
	must(t, f.WriteFile(name, 0, []byte(data)))
}

func wantData(t *testing.T, f guest.Reader, name, want string) {
	t.Helper()
	data, err := f.ReadFile(name, 1<<20)
	if err != nil || string(data) != want {
		t.Errorf("ReadFile(%q) = %q, %v, want %q", name, data, err, want)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func lstat(t *testing.T, f guest.Reader, name string) guest.Info {
	t.Helper()
	info, err := f.Lstat(name)
	must(t, err)
	return info
}

func space(t *testing.T, f Disk) {
	must(t, f.Mkdir("/folder", 0o755))
	must(t, f.Symlink("/folder/file", "/link"))
	write(t, f, "/folder/file", "data")
	of, err := f.Space("/folder")
	must(t, err)
	if of.Free < 1<<20 || of.Filesystem == "" {
		t.Errorf("space of /folder %+v", of)
	}
	for _, name := range []string{"/", "/link", "/folder/file"} {
		s, err := f.Space(name)
		if err != nil || s.Filesystem != of.Filesystem {
			t.Errorf("space of %s %+v, %v, not that of %+v", name, s, err, of)
		}
	}
	_, err = f.Space("/absent")
	wantError(t, "Space of an absent file", err, fs.ErrNotExist)
}

func namesStayInside(t *testing.T, f Disk) {
	must(t, f.Mkdir("/etc", 0o755))
	must(t, f.Mkdir("/usr", 0o755))
	must(t, f.Mkdir("/usr/lib", 0o755))
	write(t, f, "/etc/passwd", "guest's own\n")
	write(t, f, "/usr/lib/release", "release\n")
	for name, target := range map[string]string{
		"/absolute":    "/etc/passwd",
		"/up":          "../../../../etc/passwd",
		"/usr/lib/up":  "../../../../../../../etc/passwd",
		"/etc/release": "../usr/lib/release",
		"/lib":         "usr/lib",
		"/chain":       "/lib/up",
		"/magic":       "/proc/self/root/etc/passwd",
		"/fd":          "/proc/self/fd/0",
		"/slashes":     "//usr//lib/./release",
		"/etc/here":    ".",
	} {
		must(t, f.Symlink(target, name))
	}
	for name, want := range map[string]string{
		"/absolute":                      "guest's own\n",
		"/up":                            "guest's own\n",
		"/usr/lib/up":                    "guest's own\n",
		"/lib/up":                        "guest's own\n",
		"/chain":                         "guest's own\n",
		"/lib/../../etc/passwd":          "guest's own\n",
		"/../../../../../../etc/passwd":  "guest's own\n",
		"/etc/release":                   "release\n",
		"/lib/release":                   "release\n",
		"/slashes":                       "release\n",
		"/etc/here/here/passwd":          "guest's own\n",
		"/lib/../lib/release":            "release\n",
		"/usr/../lib/../../etc/./passwd": "guest's own\n",
	} {
		wantData(t, f, name, want)
	}
	for _, name := range []string{"/magic", "/fd", "/proc/self/root", "/proc"} {
		_, err := f.ReadFile(name, 1<<20)
		wantError(t, "ReadFile "+name, err, fs.ErrNotExist)
	}
	write(t, f, "/chain", "written through links\n")
	wantData(t, f, "/etc/passwd", "written through links\n")
	must(t, f.Symlink("/etc/fresh", "/dangling"))
	write(t, f, "/dangling", "made through a link\n")
	wantData(t, f, "/etc/fresh", "made through a link\n")
	if target, err := f.Readlink("/lib/up"); target != "../../../../../../../etc/passwd" {
		t.Errorf("Readlink = %q, %v", target, err)
	}
	if list, err := f.ReadDir("/lib"); err != nil || len(list) != 2 {
		t.Errorf("ReadDir through a link = %v, %v", list, err)
	}
}

func namesBelowFiles(t *testing.T, f Disk) {
	write(t, f, "/file", "x")
	_, err := f.Lstat("/file/below")
	wantError(t, "Lstat", err, fs.ErrNotExist)
	_, err = f.ReadFile("/file/below", 10)
	wantError(t, "ReadFile", err, fs.ErrNotExist)
	if _, err := f.ReadDir("/file"); err == nil {
		t.Error("ReadDir of a file succeeded")
	}
}

func loops(t *testing.T, f Disk) {
	must(t, f.Symlink("/b", "/a"))
	must(t, f.Symlink("/a", "/b"))
	must(t, f.Symlink("self/self", "/self"))
	for _, name := range []string{"/a", "/self", "/a/x"} {
		if _, err := f.ReadFile(name, 10); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%q): error %v, want one that is not ErrNotExist", name, err)
		}
	}
	if got := lstat(t, f, "/a"); got.Mode.Type() != fs.ModeSymlink {
		t.Errorf("Lstat = %v, want a link", got.Mode)
	}
}

func absent(t *testing.T, f Disk) {
	must(t, f.Symlink("/nowhere", "/dangling"))
	must(t, f.Mkdir("/dir", 0o755))
	for _, name := range []string{"/absent", "/absent/below", "/dir/absent", ""} {
		_, readErr := f.ReadFile(name+"/x", 10)
		_, statErr := f.Lstat(name + "/x")
		_, dirErr := f.ReadDir(name + "/x")
		_, linkErr := f.Readlink(name + "/x")
		_, attrErr := f.Xattrs(name + "/x")
		for what, err := range map[string]error{
			"ReadFile": readErr, "Lstat": statErr, "ReadDir": dirErr, "Readlink": linkErr, "Xattrs": attrErr,
			"Remove":   f.Remove(name + "/x"),
			"Truncate": f.Truncate(name+"/x", 0),
			"SetMeta":  f.SetMeta(name+"/x", guest.Meta{Mode: 0o644}),
		} {
			wantError(t, what+" "+name+"/x", err, fs.ErrNotExist)
		}
	}
	_, err := f.ReadFile("/dangling", 10)
	wantError(t, "ReadFile of a dangling link", err, fs.ErrNotExist)
	for what, err := range map[string]error{
		"WriteFile": f.WriteFile("/absent/x", 0, nil),
		"Mkdir":     f.Mkdir("/absent/x", 0o755),
		"Symlink":   f.Symlink("x", "/absent/x"),
	} {
		wantError(t, what, err, fs.ErrNotExist)
	}
}

func limits(t *testing.T, f Disk) {
	write(t, f, "/ten", "0123456789")
	wantData(t, f, "/ten", "0123456789")
	if data, err := f.ReadFile("/ten", 10); err != nil || len(data) != 10 {
		t.Errorf("ReadFile at its limit = %q, %v", data, err)
	}
	_, err := f.ReadFile("/ten", 9)
	wantError(t, "ReadFile over its limit", err, guest.ErrTooBig)
	must(t, f.WriteFile("/huge", 8<<30, nil))
	if size := lstat(t, f, "/huge").Size; size != 8<<30 {
		t.Errorf("a sparse file's size = %d", size)
	}
	_, err = f.ReadFile("/huge", guest.MaxFile)
	wantError(t, "ReadFile of 8 GiB", err, guest.ErrTooBig)
}

func onlyRegular(t *testing.T, f Disk) {
	must(t, f.Mkdir("/dir", 0o755))
	must(t, f.Pipe("/pipe"))
	must(t, f.Symlink("/pipe", "/link"))
	for _, name := range []string{"/dir", "/pipe", "/link", "/"} {
		_, err := f.ReadFile(name, 10)
		wantError(t, "ReadFile "+name, err, guest.ErrNotRegular)
		wantError(t, "WriteFile "+name, f.WriteFile(name, 0, []byte("x")), guest.ErrNotRegular)
		wantError(t, "Truncate "+name, f.Truncate(name, 0), guest.ErrNotRegular)
	}
	if mode := lstat(t, f, "/pipe").Mode; mode.Type() != fs.ModeNamedPipe {
		t.Errorf("a pipe's mode = %v", mode)
	}
	if _, err := f.Readlink("/pipe"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Readlink of a pipe: error %v", err)
	}
	state, err := guest.StateOf(f, "/pipe")
	if err != nil || state.Kind != guest.Other {
		t.Errorf("StateOf a pipe = %v, %v", state, err)
	}
	must(t, f.Remove("/pipe"))
}

func folders(t *testing.T, f Disk) {
	must(t, f.Mkdir("/d", 0o755))
	names := []string{".hidden", "10", "9", "B", "a", "link", "sub", "ä"}
	for _, name := range slices.Backward(names) {
		switch name {
		case "link":
			must(t, f.Symlink("a", "/d/link"))
		case "sub":
			must(t, f.Mkdir("/d/sub", 0o711))
		default:
			write(t, f, "/d/"+name, name)
		}
	}
	list, err := f.ReadDir("/d")
	must(t, err)
	var got []string
	for _, info := range list {
		got = append(got, info.Name)
		if one := lstat(t, f, "/d/"+info.Name); !sameInfo(one, info) {
			t.Errorf("ReadDir says %+v, Lstat %+v", info, one)
		}
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Error("ReadDir: ", diff)
	}
}

func sameInfo(a, b guest.Info) bool {
	sameTime := a.MTime.Equal(b.MTime)
	a.MTime, b.MTime = time.Time{}, time.Time{}
	return a == b && sameTime
}

// someMeta is a meta that every engine stores whole.
var someMeta = guest.Meta{
	Mode: 0o640, UID: 12, GID: 345,
	Xattrs: map[string][]byte{
		"security.selinux": []byte("system_u:object_r:etc_t:s0\x00"),
		"user.octets":      {1, 0xff, 0xfe, '\n'},
		"trusted.empty":    {},
	},
	MTime: time.Date(2011, 12, 13, 14, 15, 16, 171819202, time.UTC),
}

func wantMeta(t *testing.T, f guest.Reader, name string, want guest.Meta) {
	t.Helper()
	state, err := guest.StateOf(f, name)
	must(t, err)
	got := state.Meta
	if want.MTime.IsZero() {
		got.MTime = time.Time{}
	}
	got.MTime = got.MTime.UTC()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("meta of %s (-want +got):\n%s", name, diff)
	}
}

func writesKeep(t *testing.T, f Disk) {
	write(t, f, "/a", "before\n")
	must(t, f.Link("/a", "/b"))
	meta := someMeta
	meta.Mode = 0o754 | fs.ModeSetuid
	meta.Xattrs = map[string][]byte{
		"security.selinux": []byte("bin_t\x00"),
		// cap_net_raw=ep, revision 2: the kernel drops it at a write.
		"security.capability": {1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	}
	must(t, f.SetMeta("/a", meta))
	write(t, f, "/b", "after\n")
	wantData(t, f, "/a", "after\n")
	must(t, f.WriteFile("/a", 6, []byte("more\n")))
	wantData(t, f, "/b", "after\nmore\n")
	must(t, f.Truncate("/a", 3))
	meta.MTime = time.Time{}
	wantMeta(t, f, "/a", meta)
	wantMeta(t, f, "/b", meta)
	must(t, f.Remove("/a"))
	wantData(t, f, "/b", "aft")
}

func offsets(t *testing.T, f Disk) {
	write(t, f, "/f", "0123456789")
	must(t, f.WriteFile("/f", 4, []byte("AB")))
	wantData(t, f, "/f", "0123AB")
	must(t, f.WriteFile("/f", 2, nil))
	wantData(t, f, "/f", "01")
	must(t, f.WriteFile("/f", 4, []byte("x")))
	wantData(t, f, "/f", "01\x00\x00x")
	must(t, f.WriteFile("/f", 0, nil))
	wantData(t, f, "/f", "")
	must(t, f.WriteFile("/new", 3, []byte("x")))
	wantData(t, f, "/new", "\x00\x00\x00x")
}

func large(t *testing.T, f Disk) {
	data := strings.Repeat("0123456789abcdef", 9<<20/16) + "odd"
	write(t, f, "/large", data)
	got, err := f.ReadFile("/large", int64(len(data)))
	if err != nil || string(got) != data {
		t.Errorf("ReadFile = %d bytes, %v, want %d the same", len(got), err, len(data))
	}
	must(t, f.WriteFile("/large", 5<<20, []byte("tail")))
	got, err = f.ReadFile("/large", int64(len(data)))
	if err != nil || string(got) != data[:5<<20]+"tail" {
		t.Errorf("ReadFile after a write at 5 MiB = %d bytes, %v", len(got), err)
	}
}

func truncates(t *testing.T, f Disk) {
	write(t, f, "/f", "0123456789")
	must(t, f.Truncate("/f", 3))
	wantData(t, f, "/f", "012")
	must(t, f.Truncate("/f", 5))
	wantData(t, f, "/f", "012\x00\x00")
}

func newFiles(t *testing.T, f Disk) {
	write(t, f, "/new", "secret")
	wantMeta(t, f, "/new", guest.Meta{Mode: 0o600})
	for _, mode := range []fs.FileMode{0o700, 0o755, 0o777 | fs.ModeSticky, 0o755 | fs.ModeSetgid} {
		name := fmt.Sprintf("/%o", guest.UnixMode(mode))
		must(t, f.Mkdir(name, mode))
		wantMeta(t, f, name, guest.Meta{Mode: mode})
	}
}

func collisions(t *testing.T, f Disk) {
	write(t, f, "/file", "x")
	must(t, f.Mkdir("/dir", 0o755))
	must(t, f.Symlink("/file", "/link"))
	for _, name := range []string{"/file", "/dir", "/link"} {
		wantError(t, "Mkdir "+name, f.Mkdir(name, 0o755), fs.ErrExist)
		wantError(t, "Symlink "+name, f.Symlink("x", name), fs.ErrExist)
	}
	wantData(t, f, "/link", "x")
}

func removes(t *testing.T, f Disk) {
	must(t, f.Mkdir("/dir", 0o755))
	write(t, f, "/dir/file", "x")
	must(t, f.Symlink("dir/file", "/link"))
	must(t, f.Symlink("dir", "/dirlink"))
	if f.Remove("/dir") == nil {
		t.Error("a folder that is not empty was removed")
	}
	must(t, f.Remove("/link"))
	wantData(t, f, "/dirlink/file", "x")
	must(t, f.Remove("/dirlink"))
	must(t, f.Remove("/dir/file"))
	must(t, f.Remove("/dir"))
	_, err := f.Lstat("/dir")
	wantError(t, "Lstat", err, fs.ErrNotExist)
	if f.Remove("/") == nil {
		t.Error("the root was removed")
	}
}

func metas(t *testing.T, f Disk) {
	write(t, f, "/f", "x")
	must(t, f.Mkdir("/d", 0o755))
	for _, name := range []string{"/f", "/d"} {
		meta := someMeta
		must(t, f.SetMeta(name, meta))
		wantMeta(t, f, name, meta)
		meta.Mode |= fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
		must(t, f.SetMeta(name, meta))
		wantMeta(t, f, name, meta)
		meta.MTime = time.Date(1999, 1, 2, 3, 4, 5, 999999999, time.UTC)
		meta.Xattrs = map[string][]byte{"user.octets": []byte("another")} // the others go
		must(t, f.SetMeta(name, meta))
		wantMeta(t, f, name, meta)
		meta.Xattrs = nil
		meta.UID, meta.GID = 1<<31+5, 4_000_000_000 // ids are 32 bits
		must(t, f.SetMeta(name, meta))
		wantMeta(t, f, name, meta)
	}
	wantData(t, f, "/f", "x")
}

// binaryAttributes: an engine that cannot store a value says so and leaves the
// file alone.
func binaryAttributes(t *testing.T, f Disk) {
	write(t, f, "/f", "x")
	before := guest.Meta{Mode: 0o600, Xattrs: map[string][]byte{"user.octets": []byte("before")}}
	must(t, f.SetMeta("/f", before))
	binary := guest.Meta{Mode: 0o640, Xattrs: map[string][]byte{"user.octets": {0, 1, 0xff, 0, 'x', 0}}}
	err := f.SetMeta("/f", binary)
	switch {
	case err == nil:
		wantMeta(t, f, "/f", binary)
	case errors.Is(err, errors.ErrUnsupported):
		wantMeta(t, f, "/f", before)
		t.Log("this engine refuses them")
	default:
		t.Error(err)
	}
}

func accessLists(t *testing.T, f Disk) {
	// acl(5), version 2; user::rwx, user:1000:rwx, group::r-x, group:4000000000:r--, mask::rwx, other::---.
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		8, 0, 4, 0, 0x00, 0x28, 0x6b, 0xee, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	must(t, f.Mkdir("/d", 0o755))
	meta := guest.Meta{Mode: 0o770, Xattrs: map[string][]byte{"system.posix_acl_default": acl, "system.posix_acl_access": acl}}
	must(t, f.SetMeta("/d", meta))
	wantMeta(t, f, "/d", meta)

	v := guest.NewView(f)
	v.As("test/acl", "a new file has what is asked for, not what its folder hands down")
	must(t, v.Write("/d/new/file", []byte("x")))
	inverse, err := guest.Apply(f, v.Changes())
	must(t, err)
	wantMeta(t, f, "/d/new", guest.Meta{Mode: 0o755})
	_, err = guest.Apply(f, inverse)
	must(t, err)
	wantMeta(t, f, "/d", meta)
	must(t, f.SetMeta("/d", guest.Meta{Mode: 0o750}))
	wantMeta(t, f, "/d", guest.Meta{Mode: 0o750})
}

func linkMeta(t *testing.T, f Disk) {
	write(t, f, "/f", "x")
	must(t, f.SetMeta("/f", guest.Meta{Mode: 0o600}))
	must(t, f.Symlink("/f", "/link"))
	meta := guest.Meta{Mode: fs.ModePerm, UID: 3, GID: 4, Xattrs: map[string][]byte{"security.selinux": []byte("lnk\x00")}}
	must(t, f.SetMeta("/link", meta))
	wantMeta(t, f, "/link", meta)
	wantMeta(t, f, "/f", guest.Meta{Mode: 0o600})
	must(t, f.Symlink("/nowhere", "/dangling"))
	must(t, f.SetMeta("/dangling", meta))
	wantMeta(t, f, "/dangling", meta)
}

func strangeNames(t *testing.T, f Disk) {
	for _, base := range []string{"with space", "new\nline", "qu'ote\"", "-rf", "*?[x]", "back\\slash", "\xff\xfe", strings.Repeat("n", 255)} {
		write(t, f, "/"+base, base)
		wantData(t, f, "/"+base, base)
		list, err := f.ReadDir("/")
		must(t, err)
		if !slices.ContainsFunc(list, func(i guest.Info) bool { return i.Name == base }) {
			t.Errorf("ReadDir lacks %q", base)
		}
		must(t, f.Symlink(base, "/link"))
		if target, err := f.Readlink("/link"); err != nil || target != base {
			t.Errorf("Readlink = %q, %v, want %q", target, err, base)
		}
		must(t, f.Remove("/link"))
	}
}
