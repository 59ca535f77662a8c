package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

func TestASourceThatSomebodyUsesIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		use  func(path string) func()
		says string
	}{
		"nobody":   {func(string) func() { return func() {} }, ""},
		"a reader": {func(path string) func() { return opened(t, path, os.O_RDONLY, nil) }, ""},
		"a reader of QEMU's": {func(path string) func() {
			return opened(t, path, os.O_RDONLY, &unix.Flock_t{Type: unix.F_RDLCK, Start: 100, Len: 1})
		}, ""},
		"a writer": {func(path string) func() { return opened(t, path, os.O_RDWR, nil) }, "a program on this host has it open for writing"},
		"a writer of QEMU's": {func(path string) func() {
			return opened(t, path, os.O_RDWR, &unix.Flock_t{Type: unix.F_RDLCK, Start: 101, Len: 1})
		}, "another program on this host has locked it"},
		"a program that locks all": {func(path string) func() { return opened(t, path, os.O_RDWR, &unix.Flock_t{Type: unix.F_WRLCK}) }, "another program on this host has locked it"},
		"Workstation":              {func(path string) func() { return beside(t, path+".lck") }, "VMware's lock PATH.lck is there; shut the VM down, or remove the lock if no VM runs"},
		"ESXi on NFS":              {func(path string) func() { return beside(t, filepath.Join(filepath.Dir(path), ".lck-5c2a000000000000")) }, "VMware's lock "},
	} {
		path := filepath.Join(t.TempDir(), "web.vmdk")
		writeFile(t, path, strings.Repeat("x", 4096))
		end := c.use(path)
		err := InUse(path)
		says := strings.ReplaceAll(c.says, "PATH", path)
		if (says == "") != (err == nil) || err != nil && (!errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: InUse = %v, want %q", name, err, says)
		}
		end()
		if err := InUse(path); err != nil && !strings.Contains(err.Error(), ".lck") {
			t.Errorf("%s, when it has ended: %v", name, err)
		}
	}
}

// opened has a file open and locked as another program would.
func opened(t *testing.T, path string, mode int, lock *unix.Flock_t) func() {
	t.Helper()
	f := must(os.OpenFile(path, mode, 0))(t)
	if lock != nil {
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, lock); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func beside(t *testing.T, path string) func() {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return func() {}
}

// A machine that QEMU runs, and our own server, which others may read beside.
func TestWhatQEMUWritesIsInUseAndWhatItReadsIsNot(t *testing.T) {
	needServers(t)
	path := filepath.Join(t.TempDir(), "a.raw")
	writeFile(t, path, strings.Repeat("x", 4096))
	s := must(OpenSource(t.Context(), path, Raw))(t)
	if err := InUse(path); err != nil {
		t.Errorf("a disk that is only read: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	dir := must(proc.PrivateDir())(t)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "nbd.sock")
	writer := must(proc.Start(t.Context(), proc.Service{Command: proc.Command{Name: "qemu-nbd", Args: []string{"--persistent", "--socket=" + socket, "-f", "raw", path}}, Socket: socket}))(t)
	// It listens before it opens the disk, and answers when it has.
	must(proc.Run(t.Context(), "qemu-img", "info", "-f", "raw", Export{Socket: socket}.URI()))(t)
	if err := InUse(path); !errors.Is(err, ErrInUse) {
		t.Errorf("a disk that QEMU writes: %v, want %v", err, ErrInUse)
	}
	if err := writer.Stop(); err != nil {
		t.Error(err)
	}
}

// A linked clone may be moved while its siblings run: they read the parent and
// lock it. A parent that is written is no parent.
func TestReadersOfAParentAreNoUsers(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "web-flat.vmdk"), string(pattern(8)))
	base := readChain(t, described(t, dir, "web.vmdk", 7, nil, `RW 8 VMFS "web-flat.vmdk"`))
	writeFile(t, filepath.Join(dir, "clone-delta.vmdk"), string(cowd(8, nil)))
	clone := readChain(t, described(t, dir, "clone.vmdk", 8, base, `RW 8 VMFSSPARSE "clone-delta.vmdk"`))
	beside(t, base.Path+".lck")
	if err := clone.InUse(); err != nil {
		t.Errorf("the parent is read by others: %v", err)
	}
	if err := base.InUse(); !errors.Is(err, ErrInUse) {
		t.Errorf("the parent itself: %v, want %v", err, ErrInUse)
	}
	end := opened(t, filepath.Join(dir, "web-flat.vmdk"), os.O_RDWR, nil)
	defer end()
	if err := clone.InUse(); !errors.Is(err, ErrInUse) {
		t.Errorf("the parent is written: %v, want %v", err, ErrInUse)
	}
}
