package guest_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
)

const small = `
-- g/etc/fstab --
old
-- g/boot/kernel --
kernel
-- g/usr/lib/x --
x
-- g/lib -> usr/lib --
-- g/up/link -> ../usr/lib --
`

func view(t *testing.T) (*guest.View, *tree.FS) {
	t.Helper()
	f, err := tree.Parse(txtar.Parse([]byte(small)), "g")
	if err != nil {
		t.Fatal(err)
	}
	v := guest.NewView(f)
	v.As("test", "to see")
	return v, f
}

func TestAFolderWhoseModeIsEditedKeepsItsFiles(t *testing.T) {
	v, _ := view(t)
	if err := v.SetMode("/boot", 0o700); err != nil {
		t.Fatal(err)
	}
	if list, err := v.ReadDir("/boot"); err != nil || len(list) != 1 || list[0].Name != "kernel" {
		t.Errorf("ReadDir = %v, %v", list, err)
	}
}

func TestTheViewFollowsLinksBeforeDots(t *testing.T) {
	v, _ := view(t)
	for name, want := range map[string]string{"/up/link/../lib/x": "/usr/lib/x", "/lib/../../etc/./fstab": "/etc/fstab", "/../lib//x": "/usr/lib/x"} {
		if got, err := v.Resolve(name); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestRollbackForgetsWhatFollowedTheMark(t *testing.T) {
	v, f := view(t)
	if err := v.Write("/etc/a", []byte("a")); err != nil {
		t.Fatal(err)
	}
	mark := v.Mark()
	err := errors.Join(v.Write("/etc/b", []byte("b")), v.Write("/etc/a", []byte("other")), v.Remove("/etc/fstab"), v.Append("/boot/kernel", []byte("x"), "x"))
	if err != nil {
		t.Fatal(err)
	}
	v.Rollback(mark)
	if n := len(v.Changes()); n != 1 {
		t.Errorf("%d changes, want 1", n)
	}
	if data, err := v.ReadFile("/etc/a", 10); string(data) != "a" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	if _, err := guest.Apply(f, v.Changes()); err != nil {
		t.Fatal(err)
	}
	if err := v.Write("/etc/c", nil); err != nil || len(v.Changes()) != 2 {
		t.Errorf("an edit after Rollback: %d changes, %v", len(v.Changes()), err)
	}
}

func TestAnEditByNobodyIsRefused(t *testing.T) {
	_, f := view(t)
	if err := guest.NewView(f).Write("/etc/fstab", nil); err == nil {
		t.Error("an edit without a fixer was recorded")
	}
}

func TestAMaskedFileReadsAsEmpty(t *testing.T) {
	v, _ := view(t)
	if err := v.Link("/dev/null", "/etc/udev/rules.d/99-vmware.rules"); err != nil {
		t.Fatal(err)
	}
	if data, err := v.ReadFile("/etc/udev/rules.d/99-vmware.rules", 10); err != nil || len(data) > 0 {
		t.Errorf("ReadFile of a masked file = %q, %v", data, err)
	}
	before := len(v.Changes())
	edit := func([]byte) ([]byte, error) { return []byte("x"), nil }
	if err := v.Edit("/etc/udev/rules.d/99-vmware.rules", edit); err != nil || len(v.Changes()) != before {
		t.Errorf("Edit of a masked file: %v, changes %+v", err, v.Changes()[before:])
	}
	if err := v.Write("/etc/udev/rules.d/99-vmware.rules", []byte("x")); err == nil {
		t.Error("a masked file was written: that would go to the device")
	}
}

// A plan is a file that people keep and may edit; what no View records is
// refused before anything is touched.
func TestAChangeThatNoViewRecordsIsRefused(t *testing.T) {
	_, f := view(t)
	fstab, err := guest.StateOf(f, "/etc/fstab")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]guest.Change{
		"keeps less than nothing":  {Path: "/etc/fstab", Before: fstab, After: fstab, Keep: -1},
		"keeps more than there is": {Path: "/etc/fstab", Before: fstab, After: fstab, Keep: 1 << 40},
		"a relative name":          {Path: "etc/fstab", Before: fstab, After: fstab},
		"a name that climbs":       {Path: "/etc/../etc/fstab", Before: fstab, After: fstab},
		"the root away":            {Path: "/", Before: guest.State{Kind: guest.Folder}, After: guest.State{Kind: guest.Absent}},
	} {
		if _, err := guest.Apply(f, []guest.Change{c}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: Apply = %v, want %v", name, err, fs.ErrInvalid)
		}
	}
}

// counting counts how often files are read.
type counting struct {
	guest.Reader
	reads int
}

func (c *counting) ReadFile(name string, limit int64) ([]byte, error) {
	c.reads++
	return c.Reader.ReadFile(name, limit)
}

func TestAnAppendReadsItsFileOnce(t *testing.T) {
	_, f := view(t)
	c := &counting{Reader: f}
	v := guest.NewView(c)
	v.As("test", "to see")
	if err := v.Append("/boot/kernel", []byte("+1"), "one"); err != nil || c.reads != 1 {
		t.Errorf("Append = %v and reads %d times, want once", err, c.reads)
	}
}

// Several edits of one file by several fixers, of its folder too, come back as
// one: content, mode and times.
func TestAChainOfEditsOnOneNameIsUndone(t *testing.T) {
	v, f := view(t)
	before := f.Clone()
	err := errors.Join(
		v.Append("/boot/kernel", []byte("+1"), "one"), v.SetMode("/boot/kernel", 0o400), v.Append("/boot/kernel", []byte("+2"), "two"),
		v.SetMode("/boot", 0o700), v.Write("/boot/new/deep", []byte("x")),
		v.Write("/etc/fstab", []byte("new")), v.Remove("/etc/fstab"), v.Write("/etc/fstab", []byte("again")), v.Append("/etc/fstab", []byte("!"), "more"),
		v.Remove("/usr/lib/x"), v.Link("/etc/fstab", "/usr/lib/x"), v.Remove("/usr/lib/x"), v.Write("/usr/lib/x", []byte("file")))
	if err != nil {
		t.Fatal(err)
	}
	inverse, err := guest.Apply(f, v.Changes())
	if err != nil {
		t.Fatal(err)
	}
	if data, err := f.ReadFile("/boot/kernel", 100); err != nil || string(data) != "kernel\n+1+2" {
		t.Errorf("kernel = %q, %v", data, err)
	}
	// as the record keeps it
	text, err := json.Marshal(inverse)
	if err != nil {
		t.Fatal(err)
	}
	var kept []guest.Change
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.Apply(f, kept); err != nil {
		t.Fatal(err)
	}
	if d := tree.Diff(before, f); d != "" {
		t.Errorf("undo leaves a difference:\n%s", d)
	}
}

// The record keeps what undo brings back: a guest must not fill it.
func TestAHugeFileIsNeitherReplacedNorRemoved(t *testing.T) {
	v, f := view(t)
	if err := f.WriteFile("/etc/huge", 0, make([]byte, guest.MaxText+1)); err != nil {
		t.Fatal(err)
	}
	if err := v.Write("/etc/huge", []byte("small")); !errors.Is(err, guest.ErrTooBig) {
		t.Errorf("Write = %v, want %v", err, guest.ErrTooBig)
	}
	if err := v.Remove("/etc/huge"); !errors.Is(err, guest.ErrTooBig) {
		t.Errorf("Remove = %v, want %v", err, guest.ErrTooBig)
	}
}

// What a fixer has read to see what to append is not read once more for that.
func TestALargeFileIsReadOnceForItsFixer(t *testing.T) {
	_, f := view(t)
	if err := f.WriteFile("/boot/kernel", 0, make([]byte, guest.MaxText+1)); err != nil {
		t.Fatal(err)
	}
	c := &counting{Reader: f}
	v := guest.NewView(c)
	v.As("test", "to see")
	if _, err := v.ReadFile("/boot/kernel", guest.MaxFile); err != nil {
		t.Fatal(err)
	}
	if err := v.Append("/boot/kernel", []byte("+1"), "one"); err != nil || c.reads != 1 {
		t.Errorf("Append = %v, and the file was read %d times, want once", err, c.reads)
	}
	if err := guest.Check(f, v.Changes()); err != nil {
		t.Error(err)
	}
}

// readers counts how often an engine's files are read.
type readers struct {
	*tree.FS
	reads int
}

func (r *readers) ReadFile(name string, limit int64) ([]byte, error) {
	r.reads++
	return r.FS.ReadFile(name, limit)
}

// Each file is read to see whether it is what was planned for, and to see what was
// written.
func TestApplyReadsAFileTwice(t *testing.T) {
	v, f := view(t)
	if err := v.Append("/boot/kernel", []byte("+1"), "one"); err != nil {
		t.Fatal(err)
	}
	r := &readers{FS: f}
	if _, err := guest.Apply(r, v.Changes()); err != nil || r.reads != 2 {
		t.Errorf("Apply = %v, and the file was read %d times, want 2", err, r.reads)
	}
}

// linked is a guest in which two names are one file's.
type linked struct{ *tree.FS }

func (l linked) WriteFile(name string, offset int64, data []byte) error {
	return errors.Join(l.FS.WriteFile("/etc/fstab", offset, data), l.FS.WriteFile("/boot/kernel", offset, data))
}

// A file that an earlier change has changed by another name is read again: undo brings
// back what was there.
func TestApplyReadsAgainWhatHasChanged(t *testing.T) {
	v, f := view(t)
	if err := errors.Join(v.Write("/etc/fstab", []byte("new")), v.Remove("/boot/kernel")); err != nil {
		t.Fatal(err)
	}
	inverse, err := guest.Apply(linked{f}, v.Changes())
	if err != nil {
		t.Fatal(err)
	}
	if c := inverse[0]; c.Path != "/boot/kernel" || c.After.Size != 3 || string(c.Data) != "new" {
		t.Errorf("undo brings back %+v with %q, want the 3 bytes that were written", c.After, c.Data)
	}
}
