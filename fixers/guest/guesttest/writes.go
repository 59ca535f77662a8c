package guesttest

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"hyper2kvm/fixers/guest"
)

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
