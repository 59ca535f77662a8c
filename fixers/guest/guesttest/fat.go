package guesttest

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
)

// FAT holds an engine to what guest.FS promises of FAT, which has neither owners,
// modes nor attributes, and names in any case.
func FAT(t *testing.T, g guest.FS) {
	undo := modeless(t, g)
	if data, err := g.ReadFile("/efi/boot/bootx64.efi", 4<<20); err != nil || len(data) != 2<<20 {
		t.Errorf("ReadFile in another case = %d bytes, %v", len(data), err)
	}
	wantError(t, "Mkdir in another case", g.Mkdir("/efi", 0o755), fs.ErrExist)
	if err := g.Symlink("/file", "/link"); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("Symlink: error %v, want that FAT has none", err)
	}
	undo()
}

// NTFS holds an engine to what guest.FS promises of NTFS: as of FAT, but names are
// told apart by case, as they are for Linux, and none is made that Windows could not
// open.
func NTFS(t *testing.T, g guest.FS) {
	undo := modeless(t, g)
	_, err := g.ReadFile("/efi/boot/bootx64.efi", 4<<20)
	wantError(t, "ReadFile in another case", err, fs.ErrNotExist)
	for _, name := range []string{"/a:b", "/CON", "/end."} {
		if err := g.WriteFile(name, 0, []byte("x")); err == nil {
			t.Errorf("WriteFile made %s", name)
		}
	}
	undo()
}

// modeless makes, applies and returns how to undo a plan on a file system that has no
// modes.
func modeless(t *testing.T, g guest.FS) (undo func()) {
	write(t, g, "/file", "content\n")
	before, err := tree.Read(g)
	must(t, err)
	inverse, err := guest.Apply(g, planFAT(t, g))
	must(t, err)
	if again := planFAT(t, g); len(again) > 0 {
		t.Errorf("planning again gives %d changes, the first %s", len(again), again[0].Path)
	}
	must(t, g.SetMeta("/file", guest.Meta{Mode: 0o600, UID: 12, GID: 345})) // nobody hears that it cannot be
	wantMode(t, g, "/file", 0o644)
	wantMode(t, g, "/EFI/debian", fs.ModeDir|0o755)
	_, err = g.ReadFile("/EFI/debian/absent", 10)
	wantError(t, "ReadFile of an absent file", err, fs.ErrNotExist)
	_, err = g.ReadFile("/EFI", 10)
	wantError(t, "ReadFile of a folder", err, guest.ErrNotRegular)
	if s, err := g.Space("/EFI"); err != nil || s.Free < 1<<20 {
		t.Errorf("Space = %+v, %v", s, err)
	}
	return func() {
		_, err := guest.Apply(g, inverse)
		must(t, err)
		after, err := tree.Read(g)
		must(t, err)
		if diff := tree.DiffFiles(before, after); diff != "" {
			t.Error("undo left a difference:\n", diff)
		}
	}
}

// planFAT is what a fixer changes on an EFI system partition.
func planFAT(t *testing.T, g guest.FS) []guest.Change {
	v := guest.NewView(g)
	v.As("test/fat", "firmware reads FAT alone")
	must(t, v.Write("/EFI/BOOT/BOOTX64.EFI", bytes.Repeat([]byte("MZ\x00\xff"), 1<<19)))
	must(t, v.Write("/file", []byte("changed\n")))
	must(t, v.Write("/EFI/debian/a long name.cfg", []byte("configfile\n")))
	return v.Changes()
}

func wantMode(t *testing.T, g guest.Reader, name string, want fs.FileMode) {
	t.Helper()
	if info, err := g.Lstat(name); err != nil || info.Mode != want || info.UID != 0 || info.GID != 0 {
		t.Errorf("Lstat(%s) = %+v, %v, want root's with mode %v", name, info, err, want)
	}
}
