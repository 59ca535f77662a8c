package guesttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/proc"
)

// CheckPrograms are those that Checks and the engines' checkers run beyond
// Programs.
var CheckPrograms = []string{"debugfs", "xfs_db", "e2fsck", "xfs_repair"}

// Checks makes a disk of file systems, whole and damaged; Check asks an engine
// about them. An engine that works on this host opens some of them to leave them
// as after a power failure.
func Checks(t testing.TB, open func(disk string) guest.Guest) string {
	t.Helper()
	dir := t.TempDir()
	all := filepath.Join(dir, "all.raw")
	const first = 1 << 20
	size, table := int64(first), "label: gpt\n"
	for _, c := range checks {
		table += fmt.Sprintf("start=%d, size=%d\n", size/512, c.size/512)
		size += c.size
	}
	sparse(t, all, size+first)
	run(t, table, "sfdisk", "--quiet", all)
	at := int64(first)
	for _, c := range checks {
		disk := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-")+".raw")
		Make(t, disk, c.fstype, c.size)
		if c.spoil != nil {
			c.spoil(t, disk, open)
		}
		splice(t, disk, all, at)
		at += c.size
	}
	return all
}

var checks = []struct {
	name, fstype string
	size         int64
	spoil        func(t testing.TB, disk string, open func(string) guest.Guest)
	want         guest.Condition
	text         string // that the health must have
}{
	{"ext2", "ext2", 16 << 20, nil, guest.Clean, ""},
	{"ext4", "ext4", 16 << 20, nil, guest.Clean, ""},
	{"ext4 without an inode", "ext4", 16 << 20, clearInode, guest.Damaged, "e2fsck: Entry 'lost+found'"},
	{"ext4 with a journal to replay", "ext4", 16 << 20, leaveJournal, guest.Clean, ""},
	{"ext4 after a power failure", "ext4", 16 << 20, PowerFailure, guest.Clean, ""},
	{"ext4 with zeros in it", "ext4", 16 << 20, zeroed, guest.Damaged, ""},
	{"xfs", "xfs", 320 << 20, nil, guest.Clean, ""},
	{"xfs with a wrong count", "xfs", 320 << 20, miscount, guest.Damaged, "xfs_repair: "},
	{"xfs after a power failure", "xfs", 320 << 20, PowerFailure, guest.Clean, ""},
}

// Check holds an engine to its word about the disk of Checks, which has a name.
func Check(t *testing.T, g guest.Guest, disk string) {
	device := func(i int) string { return fmt.Sprintf("%sp%d", disk, i+1) }
	for i, c := range checks {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			h, err := g.Check(t.Context(), device(i))
			must(t, err)
			if h.Device != device(i) || h.Type != c.fstype || h.State != c.want || !strings.Contains(h.Text, c.text) || (h.Text == "") != (h.State == guest.Clean) || strings.Contains(h.Text, "/dev/") {
				t.Errorf("Check = %+v, want %s: %s", h, c.want, c.text)
			}
			again, err := g.Check(t.Context(), device(i))
			must(t, err)
			if diff := cmp.Diff(h, again); diff != "" {
				t.Error("the check changed something: ", diff)
			}
		})
	}
	if _, err := g.Check(t.Context(), device(len(checks))); err == nil {
		t.Error("a file system that is not there was checked")
	}
	must(t, g.Mount(device(0), "/"))
	if _, err := g.Check(t.Context(), device(1)); err == nil {
		t.Error("checked while something is mounted")
	}
	must(t, g.UnmountAll())
}

// clearInode takes an inode away from a folder that names it.
func clearInode(t testing.TB, disk string, _ func(string) guest.Guest) {
	t.Helper()
	run(t, "", "debugfs", "-w", "-R", "clri /lost+found", disk)
}

// leaveJournal moves a block into the journal, as after a power failure: what
// stands in its place is damage until the journal is replayed.
func leaveJournal(t testing.TB, disk string, _ func(string) guest.Guest) {
	t.Helper()
	out, err := proc.Run(t.Context(), "debugfs", "-R", "imap /", disk)
	if err != nil {
		t.Fatal(err)
	}
	var inode, group, block int64
	at := strings.Index(string(out), "located at block")
	if _, err := fmt.Sscanf(string(out), "Inode %d is part of block group %d", &inode, &group); err != nil || at < 0 {
		t.Fatalf("debugfs said %q: %v", out, err)
	}
	if _, err := fmt.Sscanf(string(out)[at:], "located at block %d", &block); err != nil {
		t.Fatal(err)
	}
	const size = 1024
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	good := make([]byte, size)
	if _, err := f.ReadAt(good, block*size); err != nil {
		t.Fatal(err)
	}
	saved := disk + ".block"
	if err := os.WriteFile(saved, good, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, fmt.Sprintf("jo -c\njw -b %d %s\njc\n", block, saved), "debugfs", "-w", "-f", "-", disk)
	zero(t, disk, block*size, size)
}

// PowerFailure takes the disk as it is while a file that was just written is in
// the journal alone.
func PowerFailure(t testing.TB, disk string, open func(string) guest.Guest) {
	t.Helper()
	g := open(disk)
	var data []byte
	steps := []func() error{
		func() error { return g.Mount("disk0", "/") },
		func() error { return g.Mkdir("/d", 0o755) },
		func() error { return g.WriteFile("/d/file", 0, []byte(strings.Repeat("x", 100_000))) },
		func() error { unix.Sync(); return nil },
		func() (err error) { data, err = os.ReadFile(disk); return err },
		g.Close,
		func() error { return os.WriteFile(disk, data, 0o600) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// zeroed overwrites the tables of inodes.
func zeroed(t testing.TB, disk string, _ func(string) guest.Guest) {
	t.Helper()
	zero(t, disk, 128<<10, 256<<10)
}

// miscount gives the root folder more links than it has.
func miscount(t testing.TB, disk string, _ func(string) guest.Guest) {
	t.Helper()
	run(t, "", "xfs_db", "-x", "-c", "sb 0", "-c", "addr rootino", "-c", "write core.nlinkv2 77", disk)
}
