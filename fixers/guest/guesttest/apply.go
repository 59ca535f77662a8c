package guesttest

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
)

// furnish makes a little guest with metadata of every kind.
func furnish(t *testing.T, f Disk) {
	t.Helper()
	for _, dir := range []string{"/etc", "/etc/default", "/usr", "/usr/lib", "/boot", "/old"} {
		must(t, f.Mkdir(dir, 0o755))
	}
	for name, data := range map[string]string{
		"/etc/fstab": "/dev/sda1 / ext4\n", "/etc/default/grub": "GRUB_TIMEOUT=5\n", "/usr/lib/tool": "#!/bin/sh\n",
		"/boot/initrd": strings.Repeat("\x00\xff", 5000), "/old/leftover": "vmware\n", "/old/other": "stays\n",
	} {
		write(t, f, name, data)
		meta := someMeta
		meta.MTime = meta.MTime.AddDate(0, len(name), 0)
		must(t, f.SetMeta(name, meta))
	}
	must(t, f.Symlink("/etc/fstab", "/old/link"))
	must(t, f.Symlink("../usr/lib/tool", "/etc/toollink"))
	must(t, f.SetMeta("/old/link", guest.Meta{Mode: fs.ModePerm, UID: 7, GID: 8, MTime: someMeta.MTime}))
	for _, dir := range []string{"/etc/default", "/etc", "/usr/lib", "/boot", "/old"} {
		must(t, f.SetMeta(dir, guest.Meta{Mode: 0o751, UID: 1, GID: 2, MTime: someMeta.MTime}))
	}
}

// edit is what a plan's fixers do: each kind of edit, some on top of others.
func edit(v *guest.View) error {
	v.As("test/first", "to see every kind of edit")
	return errors.Join(
		v.Edit("/etc/fstab", replace("/dev/sda1", "UUID=1")),
		v.Edit("/etc/toollink", replace("/bin/sh", "/bin/bash")),
		v.Edit("/etc/absent", replace("a", "b")),
		v.Write("/etc/systemd/network/10-lan.network", []byte("[Match]\n")),
		v.Remove("/old/leftover"),
		v.Remove("/old/link"),
		v.Link("/usr/lib/tool", "/usr/lib/alias"),
		v.Link("/dev/null", "/old/other"),
		v.SetMode("/boot", 0o700),
		v.SetMode("/etc/default/grub", 0o600|fs.ModeSetgid),
		again(v),
	)
}

func again(v *guest.View) error {
	v.As("test/second", "to see edits of what was edited")
	return errors.Join(
		v.Edit("/etc/fstab", replace("ext4", "ext4 defaults")),
		v.SetMode("/etc/systemd/network/10-lan.network", 0o640),
	)
}

// replace changes old to now once: run again, it changes nothing.
func replace(old, now string) func([]byte) ([]byte, error) {
	return func(data []byte) ([]byte, error) {
		if bytes.Contains(data, []byte(now)) {
			return data, nil
		}
		return bytes.ReplaceAll(data, []byte(old), []byte(now)), nil
	}
}

// states is everything in a guest, times included, but for those of links.
func states(t *testing.T, r guest.Reader, name string, found map[string]guest.State) map[string]guest.State {
	t.Helper()
	s, err := guest.StateOf(r, name)
	must(t, err)
	s.Meta.MTime = s.Meta.MTime.UTC()
	if s.Kind == guest.Symlink {
		s.Meta.MTime = time.Time{} // not every engine can set it
	}
	found[name] = s
	if s.Kind != guest.Folder {
		return found
	}
	list, err := r.ReadDir(name)
	must(t, err)
	for _, info := range list {
		states(t, r, path.Join(name, info.Name), found)
	}
	return found
}

func roundTrip(t *testing.T, f Disk) {
	furnish(t, f)
	before := states(t, f, "/", map[string]guest.State{})
	v := guest.NewView(f)
	must(t, edit(v))
	if diff := cmp.Diff(before, states(t, f, "/", map[string]guest.State{})); diff != "" {
		t.Fatal("planning changed the guest:", diff)
	}
	if len(v.Changes()) < 12 {
		t.Fatalf("%d changes planned, want more", len(v.Changes()))
	}
	planned := states(t, v, "/", map[string]guest.State{})

	inverse, err := guest.Apply(f, v.Changes())
	must(t, err)
	after := states(t, f, "/", map[string]guest.State{})
	for name, want := range planned {
		if got := after[name]; !got.Same(want) {
			t.Errorf("%s was planned to be %+v, is %+v", name, want, got)
		}
	}
	if len(after) != len(planned) {
		t.Errorf("%d names after, %d were planned", len(after), len(planned))
	}
	wantData(t, f, "/etc/fstab", "UUID=1 / ext4 defaults\n")

	second := guest.NewView(f)
	must(t, edit(second))
	if changes := second.Changes(); len(changes) != 0 {
		t.Errorf("the second plan has %d changes, the first %+v", len(changes), changes[0])
	}

	redo, err := guest.Apply(f, inverse)
	must(t, err)
	if diff := cmp.Diff(before, states(t, f, "/", map[string]guest.State{})); diff != "" {
		t.Error("undo did not restore (-want +got):\n", diff)
	}
	_, err = guest.Apply(f, redo)
	must(t, err)
	wantData(t, f, "/etc/fstab", "UUID=1 / ext4 defaults\n")
}

func appends(t *testing.T, f Disk) {
	furnish(t, f)
	before := states(t, f, "/boot", map[string]guest.State{})
	v := guest.NewView(f)
	v.As("test/append", "initrds are supplemented")
	must(t, v.Append("/boot/initrd", []byte("one"), "one"))
	must(t, v.Append("/boot/initrd", []byte("two"), "two"))
	for _, c := range v.Changes() {
		if len(c.Data) != 3 {
			t.Errorf("an append carries %d bytes, want its 3", len(c.Data))
		}
	}
	inverse, err := guest.Apply(f, v.Changes())
	must(t, err)
	wantData(t, f, "/boot/initrd", strings.Repeat("\x00\xff", 5000)+"onetwo")
	for _, c := range inverse {
		if len(c.Data) > 3 {
			t.Errorf("undoing an append carries %d bytes", len(c.Data))
		}
	}
	_, err = guest.Apply(f, inverse)
	must(t, err)
	if diff := cmp.Diff(before, states(t, f, "/boot", map[string]guest.State{})); diff != "" {
		t.Error("undo did not restore (-want +got):\n", diff)
	}
}

func conflicts(t *testing.T, f Disk) {
	furnish(t, f)
	v := guest.NewView(f)
	must(t, edit(v))
	write(t, f, "/etc/default/grub", "GRUB_TIMEOUT=9\n")
	must(t, f.Remove("/old/leftover"))
	before := states(t, f, "/", map[string]guest.State{})
	_, err := guest.Apply(f, v.Changes())
	wantError(t, "Apply", err, guest.ErrConflict)
	for _, name := range []string{"/etc/default/grub", "/old/leftover"} {
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("error %q does not name %s", err, name)
		}
	}
	if err != nil && strings.Contains(err.Error(), "/etc/fstab") {
		t.Errorf("error %q names a file that did not change", err)
	}
	if diff := cmp.Diff(before, states(t, f, "/", map[string]guest.State{})); diff != "" {
		t.Error("a refused plan changed the guest:", diff)
	}
}

func editsHardLinks(t *testing.T, f Disk) {
	write(t, f, "/a", "one\n")
	must(t, f.Link("/a", "/b"))
	v := guest.NewView(f)
	v.As("test/links", "both names are one file")
	must(t, v.Write("/a", []byte("two\n")))
	inverse, err := guest.Apply(f, v.Changes())
	must(t, err)
	wantData(t, f, "/b", "two\n")
	_, err = guest.Apply(f, inverse)
	must(t, err)
	wantData(t, f, "/b", "one\n")
}
