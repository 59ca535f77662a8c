package direct

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
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
		guesttest.Missing(t, fmt.Sprintf("the kernel has no FUSE: %v", err))
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

// TestAnNTFSThatWasNotShutDownIsShownAndNotWritten: its log is in use, and what is in
// it stays there.
func TestAnNTFSThatWasNotShutDownIsShownAndNotWritten(t *testing.T) {
	needNTFS(t)
	name := made(t, "ntfs", 64<<20)
	data, err := os.ReadFile(name)
	must(t, err)
	at, size := logOf(data)
	page := usedLog(size)
	copy(data[at:], page)
	must(t, os.WriteFile(name, data, 0o600))
	g := openDisks(t, name)
	must(t, g.Mount("disk0", "/"))
	if err := g.WriteFile("/file", 0, []byte("x")); !errors.Is(err, unix.EROFS) {
		t.Errorf("WriteFile: error %v, want %v", err, unix.EROFS)
	}
	if f := g.Topology().Filesystems[0]; !f.Unclean {
		t.Errorf("%+v", f)
	}
	must(t, g.Close())
	after, err := os.ReadFile(name)
	must(t, err)
	if !bytes.Equal(after, data) {
		t.Error("the disk was written to")
	}
}

// logOf finds the log of a file system that mkfs.ntfs made: it alone is all ones, as
// one is that nobody has used.
func logOf(disk []byte) (at, size int) {
	const page = 4096
	ones := bytes.Repeat([]byte{0xff}, page)
	for i, run := 0, 0; i+page <= len(disk); i += page {
		if !bytes.Equal(disk[i:i+page], ones) {
			run = 0
			continue
		}
		if run += page; run > size {
			at, size = i+page-run, run
		}
	}
	return at, size
}

// usedLog is the first page of a log that Windows has in use.
//
// Source: ntfs-3g include/ntfs-3g/logfile.h, RESTART_PAGE_HEADER, RESTART_AREA and
// LOG_CLIENT_RECORD; libntfs-3g/logfile.c, ntfs_is_logfile_clean.
func usedLog(size int) []byte {
	const page, area, clients, client, none = 4096, 48, 48, 160, 0xffff
	b := make([]byte, page)
	le := binary.LittleEndian
	copy(b, "RSTR")
	le.PutUint16(b[4:], 30) // where the numbers of its sectors are, and how many
	le.PutUint16(b[6:], 1+page/512)
	le.PutUint32(b[16:], page)
	le.PutUint32(b[20:], page)
	le.PutUint16(b[24:], area)
	le.PutUint16(b[26:], 1) // version 1.1
	le.PutUint16(b[28:], 1)
	le.PutUint16(b[30:], 1)
	for i := 510; i < page; i += 512 {
		le.PutUint16(b[i:], 1)
	}
	a := b[area:]
	le.PutUint16(a[8:], 1)     // clients
	le.PutUint16(a[10:], none) // that are free
	le.PutUint16(a[12:], 0)    // the first that is in use
	le.PutUint32(a[16:], uint32(67-bits.Len(uint(size))))
	le.PutUint16(a[20:], clients+client)
	le.PutUint16(a[22:], clients)
	le.PutUint64(a[24:], uint64(size))
	le.PutUint16(a[36:], 48)
	le.PutUint16(a[38:], 64)
	c := a[clients:]
	le.PutUint16(c[16:], none) // the one before it, and behind
	le.PutUint16(c[18:], none)
	return b
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
