// Package durabletest shows tests what is on a disk when its power is cut.
package durabletest

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

// size is that of the disk, in bytes: NATS takes room for its store.
const size = 256 << 20

// Disk is an ext4 file system, which writes by itself what nobody asked it to only after
// minutes.
type Disk struct {
	Folder string
	image  string
}

// New makes a disk, which is there until the test has ended.
func New(t testing.TB) *Disk {
	t.Helper()
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("mounts a disk as root: set NEED_TOOLS=1")
	}
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	run(t, "mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
	return &Disk{mount(t, image), image}
}

// Cut is a folder with what is there after the power has been cut now. The disk goes on.
func (d *Disk) Cut(t testing.TB) (folder string) {
	t.Helper()
	was, err := os.Open(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer was.Close()
	now, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	if _, err := io.Copy(now, was); err != nil {
		t.Fatal(err)
	}
	return mount(t, now.Name())
}

// mount mounts an image. What is written stays in memory for longer than any test runs,
// unless somebody wants it on the disk.
func mount(t testing.TB, image string) string {
	t.Helper()
	folder := t.TempDir()
	run(t, "mount", "-o", "loop,commit=900,noauto_da_alloc", image, folder)
	t.Cleanup(func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return folder
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if _, err := proc.Run(t.Context(), name, args...); err != nil {
		t.Fatal(err)
	}
}
