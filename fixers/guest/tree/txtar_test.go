package tree_test

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
)

const archive = `An example of all headers.
-- before/etc/fstab mtime=2021-02-03T04:05:06.7Z --
UUID=1 / ext4
-- before/etc/Wired connection 1.nmconnection mode=0600 --
[ipv4]
-- before/etc/os-release -> ../usr/lib/os-release --
-- before/etc/shadow mode=2640 uid=1 gid=42 xattr.security.selinux=shadow_t:s0\x00 --
root:*
-- before/var/empty/ mode=0711 --
-- before/boot/initrd encoding=base64 --
AAEC
-- before/etc/last eol=no --
no newline
-- after/etc/fstab --
UUID=2 / ext4
-- after/etc/shadow mode=0600 --
root:!
-- after/etc/last removed --
-- after/etc/new --
new
`

func TestAnArchiveBecomesATree(t *testing.T) {
	f := parse(t, archive, "before")
	want := map[string]tree.File{
		"/":                                    {Mode: fs.ModeDir | 0o755},
		"/etc":                                 {Mode: fs.ModeDir | 0o755},
		"/etc/fstab":                           {Mode: 0o644, Data: "UUID=1 / ext4\n"},
		"/etc/Wired connection 1.nmconnection": {Mode: 0o600, Data: "[ipv4]\n"},
		"/etc/os-release":                      {Mode: fs.ModeSymlink | 0o777, Target: "../usr/lib/os-release"},
		"/etc/shadow": {Mode: fs.ModeSetgid | 0o640, UID: 1, GID: 42, Data: "root:*\n",
			Xattrs: map[string][]byte{"security.selinux": []byte("shadow_t:s0\x00")}},
		"/var":         {Mode: fs.ModeDir | 0o755},
		"/var/empty":   {Mode: fs.ModeDir | 0o711},
		"/boot":        {Mode: fs.ModeDir | 0o755},
		"/boot/initrd": {Mode: 0o644, Data: "\x00\x01\x02"},
		"/etc/last":    {Mode: 0o644, Data: "no newline"},
	}
	if diff := cmp.Diff(want, f.Files()); diff != "" {
		t.Error(diff)
	}
	info, err := f.Lstat("/etc/fstab")
	if want := time.Date(2021, 2, 3, 4, 5, 6, 7e8, time.UTC); err != nil || !info.MTime.Equal(want) {
		t.Errorf("Lstat = %v, %v, want %v", info.MTime, err, want)
	}
	read, err := tree.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.Files(), read); diff != "" {
		t.Error("Read differs from Files:\n", diff)
	}
}

func TestAnOverlayListsOnlyWhatDiffers(t *testing.T) {
	before := parse(t, archive, "before")
	after, err := tree.Overlay(before, txtar.Parse([]byte(archive)), "after")
	if err != nil {
		t.Fatal(err)
	}
	want := `--- a/etc/fstab
+++ b/etc/fstab
@@ -1,1 +1,1 @@
-UUID=1 / ext4
+UUID=2 / ext4
`
	got := tree.Diff(before, after)
	for _, part := range []string{want, "- /etc/last: -rw-r--r-- 0:0\n", "+ /etc/new: -rw-r--r-- 0:0\n",
		`! /etc/shadow: grw-r----- 1:42 security.selinux="shadow_t:s0\x00", now -rw------- 1:42 security.selinux="shadow_t:s0\x00"`} {
		if !strings.Contains(got, part) {
			t.Errorf("Diff lacks %q:\n%s", part, got)
		}
	}
	if !tree.Equal(before, parse(t, archive, "before")) {
		t.Error("Overlay changed its base")
	}
}

func TestAnArchiveThatCannotBeReadIsRefused(t *testing.T) {
	for _, bad := range []string{"before/../x", "before//x", "before/x mode=9", "before/x uid=a", "before/x mtime=now",
		"before/x encoding=gzip", `before/x xattr.user.a=\q`, "before/x removed"} {
		if _, err := tree.Parse(txtar.Parse([]byte("-- "+bad+" --\n")), "before"); err == nil {
			t.Errorf("Parse(%q) succeeded", bad)
		}
	}
}

func TestVolumesAreMountedOverFolders(t *testing.T) {
	top := guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk0p1"}, {Device: "disk0p2"}, {Device: "disk0p3"}}}
	root, boot := parse(t, "-- r/boot/ --\n-- r/etc/fstab --\n", "r"), parse(t, "-- b/vmlinuz --\nkernel\n", "b")
	g := tree.NewGuest(top, map[string]*tree.FS{"disk0p1": root, "disk0p2": boot})
	for _, m := range [][2]string{{"disk0p1", "/"}, {"disk0p2", "/boot"}} {
		if err := g.Mount(m[0], m[1]); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := g.ReadFile("/boot/../boot/vmlinuz", 10); string(data) != "kernel\n" {
		t.Errorf("ReadFile = %q, %v", data, err)
	}
	if err := g.Mount("disk0p3", "/"); err == nil {
		t.Error("a device without a volume was mounted")
	}
	if err := g.Mount("disk1", "/"); err == nil {
		t.Error("an unknown device was mounted")
	}
	if err := g.UnmountAll(); err != nil {
		t.Fatal(err)
	}
	if list, err := g.ReadDir("/"); err != nil || len(list) != 0 {
		t.Errorf("after UnmountAll ReadDir = %v, %v", list, err)
	}
	if _, err := root.ReadDir("/boot"); err != nil {
		t.Error(err)
	}
}

func parse(t *testing.T, text, prefix string) *tree.FS {
	t.Helper()
	f, err := tree.Parse(txtar.Parse([]byte(text)), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
