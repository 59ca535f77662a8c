package guesttest

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/fixers/guest"
)

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
