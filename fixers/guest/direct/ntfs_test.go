package direct

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

func needNTFS(t *testing.T) {
	t.Helper()
	guesttest.Need(t, append([]string{"mkfs.ntfs", guest.NTFSProgram}, guesttest.Programs...)...)
	if err := known("fuseblk"); err != nil {
		t.Skip("the kernel has no FUSE:", err)
	}
}

func TestNTFSIsShownAsItIsPromised(t *testing.T) {
	needNTFS(t)
	name := made(t, "ntfs", 64<<20)
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	guesttest.NTFS(t, suite{g})
	must(t, g.WriteFile("/kept", 0, []byte("written through")))
	must(t, g.UnmountAll())
	must(t, g.Mount("disk0", "/"))
	if data, err := g.ReadFile("/kept", 100); err != nil || string(data) != "written through" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	if f := g.Topology().Filesystems[0]; f.Unclean {
		t.Errorf("%+v", f)
	}
	must(t, g.Close())
	requireNothingLeft(t, []string{name})
	requireNoProgram(t, name)
}

// requireNoProgram fails the test if a program is left that shows a file system.
func requireNoProgram(t *testing.T, name string) {
	t.Helper()
	if out, err := proc.Run(t.Context(), "losetup", "--associated", name); err != nil || len(out) > 0 {
		t.Errorf("%s is behind %q, %v", name, out, err)
	}
}

// TestAnotherStreamOfAFileIsKept: what Windows keeps beside a file's content is no
// attribute of a guest's, and stays where the content is changed.
func TestAnotherStreamOfAFileIsKept(t *testing.T) {
	needNTFS(t)
	name := made(t, "ntfs", 64<<20)
	const stream = "user.Zone.Identifier"
	inside(t, name, func(dir string) {
		must(t, unix.Mknod(dir+"/file", unix.S_IFREG|0o644, 0))
		must(t, unix.Setxattr(dir+"/file", stream, []byte("ZoneId=3"), 0))
	})
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	if x, err := g.Xattrs("/file"); len(x) > 0 || err != nil {
		t.Errorf("Xattrs = %q, %v", x, err)
	}
	must(t, g.WriteFile("/file", 0, []byte("new")))
	must(t, g.Close())
	inside(t, name, func(dir string) {
		value := make([]byte, 100)
		n, err := unix.Getxattr(dir+"/file", stream, value)
		if err != nil || string(value[:n]) != "ZoneId=3" {
			t.Errorf("the stream is %q, %v", value[:max(0, n)], err)
		}
	})
}

// inside mounts an NTFS as Linux does by itself.
func inside(t *testing.T, name string, f func(dir string)) {
	t.Helper()
	dir := t.TempDir()
	_, err := proc.Run(t.Context(), guest.NTFSProgram, "-o", "streams_interface=xattr", name, dir)
	must(t, err)
	defer func() { must(t, unix.Unmount(dir, 0)) }()
	f(dir)
}

// TestAHibernatedWindowsIsShownAndNotWritten: the file in which Windows keeps its
// memory begins with a mark.
func TestAHibernatedWindowsIsShownAndNotWritten(t *testing.T) {
	needNTFS(t)
	name := made(t, "ntfs", 64<<20)
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	must(t, g.WriteFile("/file", 0, []byte("content")))
	must(t, g.WriteFile("/hiberfil.sys", 0, append([]byte("HIBR"), make([]byte, 8<<10)...)))
	must(t, g.Close())

	g = openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	if data, err := g.ReadFile("/file", 100); err != nil || string(data) != "content" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	if err := g.WriteFile("/file", 0, []byte("x")); !errors.Is(err, unix.EROFS) {
		t.Errorf("WriteFile: error %v, want %v", err, unix.EROFS)
	}
	if f := g.Topology().Filesystems[0]; !f.Unclean {
		t.Errorf("%+v", f)
	}
	must(t, g.Close())
}

func TestADamagedNTFSIsNotShown(t *testing.T) {
	needNTFS(t)
	name := made(t, "ntfs", 64<<20)
	writeByte(t, name, 4*4096+6*1024, 0) // the mark of the record of what is free
	g := openDisks(t, name)
	err := g.Mount("disk0", "/")
	if err == nil || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "mount as ntfs: ntfs-3g") {
		t.Errorf("Mount: error %v", err)
	}
	must(t, g.Close())
	requireNothingLeft(t, []string{name})
}

func TestAProgramThatShowsNTFSMayCrash(t *testing.T) {
	needNTFS(t)
	name := made(t, "ntfs", 64<<20)
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	pid := childOf(t, g, guest.NTFSProgram)
	must(t, unix.Kill(pid, unix.SIGKILL))
	if _, err := g.ReadDir("/"); err == nil {
		t.Error("a file system is shown by nobody")
	}
	if err := g.UnmountAll(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("UnmountAll: error %v", err)
	}
	must(t, g.Mount("disk0", "/"))
	must(t, g.Close())
	requireNothingLeft(t, []string{name})
}
