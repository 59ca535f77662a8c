package guesttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/disk/loop/looptest"
)

// SubvolumePrograms are those that Btrfs runs.
var SubvolumePrograms = []string{"mkfs.btrfs", "blkid"}

// OfBtrfs are the subvolumes of Btrfs, as a distribution, snapper and strangers make
// them. Each has a file "where" with its own path in it; a snapshot has what it was
// taken of. Their IDs are those that the kernel gives, of which one was removed.
var OfBtrfs = []guest.Subvolume{
	{ID: 5, Path: "/"},
	{ID: 256, Path: "/@rootfs"},
	{ID: 257, Path: "/@home"},
	{ID: 258, Path: "/@default", Default: true},
	{ID: 260, Path: "/folder/deep/a,subvol=b c"},
	{ID: 261, Path: "/@rootfs/.snapshots"},
	{ID: 262, Path: "/@rootfs/.snapshots/1/snapshot", ReadOnly: true},
	{ID: 263, Path: "/@rootfs/.snapshots/1/snapshot2"},
	{ID: 264, Path: "/\xff\xfe"},
}

const removedSubvolume = 259

// Btrfs makes a disk with the subvolumes of OfBtrfs in a folder of the test. It takes
// a kernel that has btrfs.
func Btrfs(t testing.TB) string {
	t.Helper()
	return btrfs(t, makeSubvolumes)
}

// ManySubvolumes makes a disk of a btrfs with n subvolumes: /0, /1 …
func ManySubvolumes(t testing.TB, n int) string {
	t.Helper()
	return btrfs(t, func(top string) error {
		var errs []error
		for i := range n {
			errs = append(errs, onSubvolume(createCall, fmt.Sprintf("%s/%d", top, i)))
		}
		return errors.Join(errs...)
	})
}

func btrfs(t testing.TB, furnish func(top string) error) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "btrfs.raw")
	Make(t, disk, "btrfs", BlankSize)
	d := looptest.Attach(t, disk, 0, 0)
	defer looptest.Detach(t, d)
	made := make(chan error)
	top := t.TempDir()
	go func() {
		runtime.LockOSThread() // and never unlocked: the mount namespace ends with the thread
		made <- mountAlone(d.Node(), top, furnish)
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	return disk
}

// mountAlone mounts a btrfs where only this thread sees it.
func mountAlone(device, top string, do func(top string) error) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(device, top, "btrfs", 0, ""); err != nil {
		return err
	}
	return errors.Join(do(top), unix.Unmount(top, 0))
}

func makeSubvolumes(top string) error {
	if err := errors.Join(os.MkdirAll(top+"/folder/deep", 0o755), where(top, "/")); err != nil {
		return err
	}
	for _, s := range OfBtrfs[1:] {
		if err := makeSubvolume(top, s); err != nil {
			return &fs.PathError{Op: "make subvolume", Path: s.Path, Err: err}
		}
	}
	return nil
}

func makeSubvolume(top string, s guest.Subvolume) error {
	at := top + s.Path
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if strings.Contains(s.Path, "/1/") {
		return snapshot(top+"/@rootfs", at, s.ReadOnly)
	}
	if s.ID == removedSubvolume+1 {
		if err := errors.Join(onSubvolume(createCall, top+"/removed"), onSubvolume(removeCall, top+"/removed")); err != nil {
			return err
		}
	}
	if err := errors.Join(onSubvolume(createCall, at), where(at, s.Path)); err != nil || !s.Default {
		return err
	}
	return call(defaultCall, top, binary.LittleEndian.AppendUint64(nil, s.ID))
}

func where(dir, path string) error {
	return os.WriteFile(filepath.Join(dir, "where"), []byte(path), 0o644)
}

// Calls of btrfs on an open folder.
//
// Source: Linux include/uapi/linux/btrfs.h, struct btrfs_ioctl_vol_args and _v2,
// BTRFS_SUBVOL_RDONLY.
const (
	createCall   = 0x5000940e
	removeCall   = 0x5000940f
	defaultCall  = 0x40089413
	snapshotCall = 0x50009417
	callSize     = 4096
	snapshotName = 56
	snapshotRO   = 1 << 1
)

// named makes or removes the subvolume of a name.
func onSubvolume(number uintptr, at string) error {
	return call(number, filepath.Dir(at), append(make([]byte, 8), filepath.Base(at)...))
}

func snapshot(of, at string, readOnly bool) error {
	from, err := os.Open(of)
	if err != nil {
		return err
	}
	defer from.Close()
	args := make([]byte, snapshotName)
	binary.LittleEndian.PutUint64(args, uint64(from.Fd()))
	if readOnly {
		args[16] = snapshotRO
	}
	return call(snapshotCall, filepath.Dir(at), append(args, filepath.Base(at)...))
}

func call(number uintptr, dir string, args []byte) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	args = append(args, make([]byte, callSize-len(args))...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), number, uintptr(unsafe.Pointer(&args[0]))); errno != 0 {
		return errno
	}
	return nil
}

// Subvolumes holds an engine to its word about the disk of Btrfs, which has a name,
// and asks it about another file system that is none.
func Subvolumes(t *testing.T, g guest.Guest, device, other string) {
	if diff := cmp.Diff(OfBtrfs, filesystem(t, g, device).Subvolumes); diff != "" {
		t.Errorf("subvolumes (-want +got):\n%s", diff)
	}
	must(t, g.Mount(device, "/"))
	wantData(t, g, "/where", "/@default")
	must(t, g.UnmountAll())
	for _, s := range OfBtrfs {
		must(t, g.MountSubvolume(device, s.ID, "/"))
		want := s.Path
		if strings.Contains(want, "/1/") {
			want = "/@rootfs"
		}
		wantData(t, g, "/where", want)
		must(t, g.UnmountAll())
	}
	for _, id := range []uint64{0, removedSubvolume, 999} {
		wantError(t, "MountSubvolume of none", g.MountSubvolume(device, id, "/"), fs.ErrNotExist)
	}
	wantError(t, "MountSubvolume of another file system", g.MountSubvolume(other, 5, "/"), fs.ErrNotExist)
	wantError(t, "MountSubvolume of no device", g.MountSubvolume("disk99", 5, "/"), fs.ErrNotExist)
	together(t, g, device, other)
	neverWritten(t, g, device)
	if h, err := g.Check(t.Context(), device); err != nil || h.State == guest.Damaged {
		t.Errorf("Check = %+v, %v", h, err)
	}
}

// together mounts several subvolumes, and something else, as a guest does.
func together(t *testing.T, g guest.Guest, device, other string) {
	must(t, g.MountSubvolume(device, 256, "/"))
	for _, name := range []string{"/home", "/top", "/other"} {
		must(t, g.Mkdir(name, 0o755))
	}
	must(t, g.MountSubvolume(device, 257, "/home"))
	must(t, g.MountSubvolume(device, 5, "/top"))
	must(t, g.Mount(other, "/other"))
	wantData(t, g, "/home/where", "/@home")
	wantData(t, g, "/.snapshots/1/snapshot/where", "/@rootfs")
	write(t, g, "/home/new", "new\n")
	wantData(t, g, "/top/@home/new", "new\n")
	root, err := g.Space("/")
	must(t, err)
	for _, name := range []string{"/home", "/top", "/.snapshots", "/.snapshots/1/snapshot/where", "/top/@default"} {
		if s, err := g.Space(name); err != nil || s.Filesystem != root.Filesystem {
			t.Errorf("space of %s %+v, %v, not that of %+v", name, s, err, root)
		}
	}
	if s, err := g.Space("/other"); err != nil || s.Filesystem == root.Filesystem {
		t.Errorf("space of another file system %+v, %v", s, err)
	}
	must(t, g.UnmountAll())
	must(t, g.MountSubvolume(device, 257, "/"))
	wantData(t, g, "/new", "new\n")
	must(t, g.UnmountAll())
}

// neverWritten tries to change a read-only subvolume, mounted and as a folder.
func neverWritten(t *testing.T, g guest.Guest, device string) {
	must(t, g.MountSubvolume(device, 262, "/"))
	readOnly(t, g, "/")
	must(t, g.UnmountAll())
	must(t, g.MountSubvolume(device, 5, "/"))
	readOnly(t, g, "/@rootfs/.snapshots/1/snapshot/")
	write(t, g, "/@rootfs/.snapshots/1/snapshot2/where", "changed")
	wantData(t, g, "/@rootfs/where", "/@rootfs")
	must(t, g.UnmountAll())
}

func readOnly(t *testing.T, g guest.Guest, dir string) {
	for what, err := range map[string]error{
		"WriteFile":         g.WriteFile(dir+"where", 0, []byte("changed")),
		"WriteFile anew":    g.WriteFile(dir+"new", 0, nil),
		"Truncate":          g.Truncate(dir+"where", 0),
		"Mkdir":             g.Mkdir(dir+"new", 0o755),
		"Remove":            g.Remove(dir + "where"),
		"SetMeta":           g.SetMeta(dir+"where", guest.Meta{Mode: 0o600}),
		"SetMeta of itself": g.SetMeta(dir, guest.Meta{Mode: 0o700}),
	} {
		wantError(t, what+" in a read-only subvolume", err, syscall.EROFS)
	}
	if g.Symlink("where", dir+"new") == nil { // libguestfs has a program do it, and no number of the error
		t.Error("a symbolic link was made in a read-only subvolume")
	}
	wantData(t, g, dir+"where", "/@rootfs")
}
