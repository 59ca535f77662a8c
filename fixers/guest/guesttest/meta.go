package guesttest

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
)

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
