package disks

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
)

func TestASourceCannotBeWrittenAsLongAsItIsOne(t *testing.T) {
	b := newBench(t, "sfdisk")
	node, id := b.disk(t, 8<<20, func(node string) {
		label(t, node, "label: gpt\nlabel-id: 11111111-2222-3333-4444-555555555555\nstart=2048, size=4096\n")
		if err := partition(node, unix.BLKPG_ADD_PARTITION, 1, 1<<20, 2<<20); err != nil {
			t.Fatal(err)
		}
	})
	if id != "gpt-11111111-2222-3333-4444-555555555555" {
		t.Errorf("its ID is %s", id)
	}
	part := node + "p1"
	if err := writes(part); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Use(t.Context(), id, model.DiskUse{As: model.DiskUseAsSource}); err != nil {
		t.Fatal(err)
	}
	for _, again := range []string{"", "restarted"} {
		if again != "" {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if err := setReadOnly(node, false); err != nil { // as a kernel that has started
				t.Fatal(err)
			}
			b.open(t)
		}
		for _, name := range []string{node, part} {
			if err := writes(name); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
				t.Errorf("%s %s is written: %v", name, again, err)
			}
		}
		path, err := b.Source(id)
		if err != nil || !leads(path, node) || !slices.Equal(b.offers, []string{"source:" + id}) {
			t.Errorf("%s it is lent as %s, %v, and offered as %q", again, path, err, b.offers)
		}
	}
	b.uses["disk:source:"+id] = []string{"web01"}
	if err := b.Release(t.Context(), id); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "web01") {
		t.Errorf("a disk that a migration uses is released: %v", err)
	}
	delete(b.uses, "disk:source:"+id)
	if _, err := b.Use(t.Context(), id, model.DiskUse{As: model.DiskUseAsTarget}); !errors.Is(err, ErrHolds) {
		t.Errorf("it is a target then: %v", err)
	}
	if _, err := b.Source(id); err != nil {
		t.Errorf("a choice that was refused has ended the one before: %v", err)
	}
	if err := b.Release(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writes(part), b.Release(t.Context(), id)); err != nil {
		t.Errorf("what was released stays read-only: %v", err)
	}
	if _, err := b.Source(id); !errors.Is(err, ErrUnknown) || len(b.offers) > 0 {
		t.Errorf("what was released is lent: %v, %q", err, b.offers)
	}
	if _, err := os.Lstat(b.Path(id)); err == nil {
		t.Errorf("%s is left", b.Path(id))
	}
}

func TestATargetIsConfirmedAndTakesOneGuest(t *testing.T) {
	b := newBench(t)
	node, id := b.disk(t, 8<<20, nil)
	if d, err := b.Disk(t.Context(), id); err != nil || d.Holds != "empty" || d.Lasting || d.Note != byNothing || !strings.HasPrefix(id, "boot-") {
		t.Errorf("an empty disk is %+v, %v", d, err)
	}
	for _, c := range []struct {
		use  model.DiskUse
		want error
	}{
		{model.DiskUse{As: model.DiskUseAsTarget}, ErrConfirm},
		{model.DiskUse{As: model.DiskUseAsTarget, Confirm: "sda"}, ErrConfirm},
		{model.DiskUse{As: model.DiskUseAsTarget, Confirm: id, Name: "x"}, ErrInput},
		{model.DiskUse{As: model.DiskUseAsSource, Erase: true}, ErrInput},
		{model.DiskUse{As: model.DiskUseAsTarget, Confirm: id}, nil},
		{model.DiskUse{As: model.DiskUseAsTarget, Confirm: id}, nil},
	} {
		if _, err := b.Use(t.Context(), id, c.use); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.use, err, c.want)
		}
	}
	for range 2 {
		if path, erase, err := b.Target(id, "web01"); err != nil || erase || !leads(path, node) {
			t.Fatalf("Target = %s, %t, %v", path, erase, err)
		}
	}
	if err := writes(node); err != nil {
		t.Fatal(err)
	}
	if got := b.idOf(t, node); got != id {
		t.Errorf("written to, it is called %s, and not %s", got, id)
	}
	if _, _, err := b.Target(id, "web02"); !errors.Is(err, ErrHolds) || !strings.Contains(err.Error(), "web01") {
		t.Errorf("it takes a second guest: %v", err)
	}
	again := model.DiskUse{As: model.DiskUseAsTarget, Confirm: id}
	if _, err := b.Use(t.Context(), id, again); !errors.Is(err, ErrHolds) {
		t.Errorf("it is chosen again: %v", err)
	}
	again.Erase = true
	if _, err := b.Use(t.Context(), id, again); err != nil {
		t.Fatal(err)
	}
	if _, erase, err := b.Target(id, "web02"); err != nil || !erase {
		t.Errorf("erased, it is lent with %t, %v", erase, err)
	}
}

// TestWhatIsUsedIsLeftOut: the kernel says so, whoever uses it.
func TestWhatIsUsedIsLeftOut(t *testing.T) {
	b := newBench(t, "mke2fs")
	node, id := b.disk(t, 8<<20, func(node string) { run(t, "mke2fs", "-q", "-t", "ext4", node) })
	if !strings.HasPrefix(id, "fs-") {
		t.Errorf("a disk with a file system alone is called %s", id)
	}
	at := t.TempDir()
	if err := unix.Mount(node, at, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	_, others, err := b.scan(t.Context())
	if err := errors.Join(err, unix.Unmount(at, 0)); err != nil {
		t.Fatal(err)
	}
	if want := (left{filepath.Base(node), "is mounted at " + at}); !slices.Contains(others, want) {
		t.Errorf("left out are %+v, want %+v", others, want)
	}
	if path, err := b.Find(t.Context(), id, b.Log); err != nil || !leads(path, node) {
		t.Errorf("Find = %s, %v", path, err)
	} else if err := os.Remove(path); err != nil {
		t.Error(err)
	}
	held, err := os.OpenFile(node, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Use(t.Context(), id, model.DiskUse{As: model.DiskUseAsSource}); !errors.Is(err, ErrUnknown) {
		t.Errorf("what something has for itself is chosen: %v", err)
	}
	if _, err := b.Find(t.Context(), id, b.Log); !errors.Is(err, ErrUnknown) {
		t.Errorf("what something has for itself is found: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Use(t.Context(), id, model.DiskUse{As: model.DiskUseAsSource}); err != nil {
		t.Error(err)
	}
}

func TestTwoDisksThatSayTheSameAreNotMixedUp(t *testing.T) {
	b := newBench(t)
	table := func(node string) {
		mbr := make([]byte, 512)
		copy(mbr[440:], []byte{1, 2, 3, 4})
		mbr[510], mbr[511] = 0x55, 0xaa
		copy(mbr[446:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0})
		f, err := os.OpenFile(node, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write(mbr)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	first, id := b.disk(t, 8<<20, table)
	if id != "mbr-04030201" {
		t.Errorf("alone it is called %s", id)
	}
	second, twin := b.disk(t, 8<<20, table)
	if now := b.idOf(t, first); now == id || twin == id || now == twin {
		t.Errorf("beside its like it is called %s, and that one %s", now, twin)
	}
	b.set(t, second, false)
	if _, err := b.Use(t.Context(), id, model.DiskUse{As: model.DiskUseAsSource}); err != nil {
		t.Fatal(err)
	}
	b.set(t, second, true)
	if path, err := b.Source(id); err != nil || !leads(path, first) {
		t.Errorf("the one that was chosen is another one then: %s, %v", path, err)
	}
}

func TestABrokenFileOfChoicesIsToldAndKept(t *testing.T) {
	m := played(t, "")
	c := Config{Machine: m, State: t.TempDir()}
	file := filepath.Join(c.State, choicesFile)
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "choose the disks again") {
		t.Errorf("Open: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || !bytes.Equal(text, []byte("{")) {
		t.Errorf("it holds %q, %v", text, err)
	}
}
