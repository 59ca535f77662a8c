package disks

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
)

// asSource and asTarget are storages for either.
var (
	asSource = model.DiskUse{As: model.DiskUseAsStorage, Use: model.DiskUseUseSource}
	asTarget = model.DiskUse{As: model.DiskUseAsStorage, Use: model.DiskUseUseTarget}
)

// made are file systems that this kernel mounts, by the command that makes one.
var made = map[string][]string{
	"ext4":  {"mke2fs", "-q", "-t", "ext4", "-L", "Old Guests"},
	"xfs":   {"mkfs.xfs", "-q", "-L", "OldGuests"},
	"btrfs": {"mkfs.btrfs", "-q", "-L", "Old Guests"},
	"ntfs":  {"mkfs.ntfs", "--quick", "--quiet", "--force", "--label", "Old Guests"},
}

func flags(t *testing.T, at string) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(at, &s); err != nil {
		t.Fatal(err)
	}
	return s.Flags
}

func TestAFileSystemIsAStorageAsLongAsItsDiskIsThere(t *testing.T) {
	for fstype, command := range made {
		t.Run(fstype, func(t *testing.T) {
			b := newBench(t, command[0], "ntfs-3g")
			node, id := b.disk(t, 320<<20, func(node string) { run(t, command[0], append(command[1:], node)...) })
			was := digest(t, node)
			d, err := b.Use(t.Context(), id, asSource)
			if err != nil || len(b.storages) != 1 {
				t.Fatalf("%+v, %v: %+v", d, err, b.storages)
			}
			s := b.storages[0]
			if !strings.HasPrefix(s.Name, "old") || s.Use != model.StorageUseSource || d.Use.Name != s.Name || d.Note != byContent {
				t.Errorf("it is the storage %+v of %+v", s, d)
			}
			if want := int64(unix.ST_RDONLY | unix.ST_NODEV | unix.ST_NOSUID | unix.ST_NOEXEC); flags(t, s.Path)&want != want {
				t.Errorf("it is mounted with %x", flags(t, s.Path))
			}
			b.set(t, node, false)
			if len(b.storages) > 0 {
				t.Errorf("the storages of a disk that is gone are %+v", b.storages)
			}
			if _, err := os.Stat(s.Path); err == nil {
				t.Errorf("%s is left of it", s.Path)
			}
			b.set(t, node, true)
			if len(b.storages) != 1 {
				t.Fatal("it does not come back")
			}
			if err := b.Release(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if digest(t, node) != was {
				t.Error("what was chosen for reading was written to")
			}
			if _, err := b.Use(t.Context(), id, asTarget); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(b.storages[0].Path, "result"), []byte("whole"), 0o600); err != nil {
				t.Error(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b.open(t)
			if text, err := os.ReadFile(filepath.Join(b.storages[0].Path, "result")); err != nil || string(text) != "whole" {
				t.Errorf("after a restart the result is %q, %v", text, err)
			}
		})
	}
}

// TestADiskThatComesAndGoesBetweenTwoLooksIsGone: it was seen when somebody asked.
func TestADiskThatComesAndGoesBetweenTwoLooksIsGone(t *testing.T) {
	b := newBench(t, "mke2fs")
	node, id := b.disk(t, 64<<20, func(node string) { run(t, "mke2fs", "-q", "-t", "ext4", node) })
	b.set(t, node, false)
	b.mu.Lock()
	b.plugged[filepath.Base(node)] = true
	b.mu.Unlock()
	if _, err := b.Use(t.Context(), id, asSource); err != nil || len(b.storages) != 1 {
		t.Fatalf("%v: %+v", err, b.storages)
	}
	b.set(t, node, false)
	if len(b.storages) > 0 {
		t.Errorf("the storages of a disk that is gone are %+v", b.storages)
	}
}

// TestAnUncleanFileSystemIsShownAndNotMended: with the journal that a machine left that
// was switched off.
func TestAnUncleanFileSystemIsShownAndNotMended(t *testing.T) {
	b := newBench(t, "mke2fs", "debugfs")
	node, id := b.disk(t, 64<<20, func(node string) {
		run(t, "mke2fs", "-q", "-t", "ext4", node)
		run(t, "debugfs", "-w", "-R", "feature needs_recovery", node)
	})
	was := digest(t, node)
	d, err := b.Use(t.Context(), id, asSource)
	if err != nil || d.Note != uncleanNote || len(b.storages) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := b.Release(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if digest(t, node) != was {
		t.Error("its journal was replayed")
	}
}

func TestAStorageStaysAsLongAsItIsUsed(t *testing.T) {
	b := newBench(t, "mke2fs")
	_, id := b.disk(t, 64<<20, func(node string) { run(t, "mke2fs", "-q", "-t", "ext4", node) })
	for _, name := range []string{"kvm", "stick"} {
		use := asTarget
		use.Name = name
		if _, err := b.Use(t.Context(), id, use); (name == "kvm") != errors.Is(err, ErrInput) {
			t.Errorf("called %s: %v", name, err)
		}
	}
	b.uses["storage:stick"] = []string{"web01"}
	if err := b.Release(t.Context(), id); !errors.Is(err, ErrInUse) {
		t.Errorf("with a migration: %v", err)
	}
	delete(b.uses, "storage:stick")
	f, err := os.Create(filepath.Join(b.storages[0].Path, "open"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Release(t.Context(), id); !errors.Is(err, ErrInUse) || len(b.storages) != 1 {
		t.Errorf("with an open file: %v", err)
	}
	if err := errors.Join(f.Close(), b.Release(t.Context(), id)); err != nil {
		t.Error(err)
	}
}

func TestAFileSystemIsMadeOfWhatMayBeLost(t *testing.T) {
	for _, format := range []model.DiskUseFormat{model.DiskUseFormatExt4, model.DiskUseFormatXfs, model.DiskUseFormatNtfs, model.DiskUseFormatExfat} {
		t.Run(string(format), func(t *testing.T) {
			b := newBench(t, "sfdisk", "mke2fs", "mkfs.xfs", "mkfs.ntfs", "ntfs-3g", "mkfs.exfat")
			node, id := b.disk(t, 320<<20, func(node string) { label(t, node, "label: gpt\nstart=2048, size=4096\n") })
			was := digest(t, node)
			use := asTarget
			use.Name, use.Format, use.Confirm = "results", format, id
			if _, err := b.Use(t.Context(), id, use); !errors.Is(err, ErrHolds) && !errors.Is(err, ErrMount) {
				t.Errorf("without erase: %v", err)
			}
			use.Erase, use.Confirm = true, ""
			if _, err := b.Use(t.Context(), id, use); !errors.Is(err, ErrConfirm) && !errors.Is(err, ErrMount) {
				t.Errorf("without a confirmation: %v", err)
			}
			if digest(t, node) != was {
				t.Fatal("what was refused was done")
			}
			use.Confirm = id
			d, err := b.Use(t.Context(), id, use)
			if unknown := mountable(string(format)); unknown != nil { // this kernel's
				if !errors.Is(err, ErrMount) || digest(t, node) != was {
					t.Errorf("what cannot be mounted was made: %v", err)
				}
				return
			}
			if err != nil || len(d.Parts) != 1 || d.Parts[0].FileSystem != string(format) || d.ID == id || len(b.storages) != 1 {
				t.Fatalf("%+v, %v", d, err)
			}
			if text, err := os.ReadFile(node); err != nil || bytes.Contains(text, []byte("EFI PART")) {
				t.Errorf("the table that was there is left, %v", err)
			}
			if err := os.WriteFile(filepath.Join(b.storages[0].Path, "result"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Use(t.Context(), d.ID, use); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(b.storages[0].Path, "result")); err != nil {
				t.Errorf("asked for again, it was made again: %v", err)
			}
		})
	}
}

func TestMakersAreToldTheirLabelAndNoMore(t *testing.T) {
	for format, want := range map[model.DiskUseFormat]string{
		model.DiskUseFormatExt4:  "mke2fs -q -F -t ext4 -L a-name-that-is-q /dev/sdx",
		model.DiskUseFormatXfs:   "mkfs.xfs -q -f -L a-name-that- /dev/sdx",
		model.DiskUseFormatNtfs:  "mkfs.ntfs --quick --force --label a-name-that-is-quite-long /dev/sdx",
		model.DiskUseFormatExfat: "mkfs.exfat -L a-name-that /dev/sdx",
	} {
		name, args := formatArgs(format, "a-name-that-is-quite-long", "/dev/sdx")
		if got := strings.Join(append([]string{name}, args...), " "); got != want {
			t.Errorf("%s is made by %q, want %q", format, got, want)
		}
	}
}

// TestADiskThatIsWipedIsEmpty: makers of file systems leave what they do not need.
func TestADiskThatIsWipedIsEmpty(t *testing.T) {
	b := newBench(t, "sfdisk")
	node, id := b.disk(t, 8<<20, func(node string) { label(t, node, "label: gpt\nstart=2048, size=4096\n") })
	held, err := os.OpenFile(node, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := wipe(node); !errors.Is(err, ErrInUse) {
		t.Errorf("a disk that something has for itself is wiped: %v", err)
	}
	if err := errors.Join(held.Close(), wipe(node)); err != nil {
		t.Fatal(err)
	}
	if d, err := b.Disk(t.Context(), b.idOf(t, node)); err != nil || d.Holds != "empty" || d.ID == id {
		t.Errorf("wiped, it is %+v, %v", d, err)
	}
}
