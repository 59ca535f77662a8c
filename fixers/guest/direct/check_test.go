package direct

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
)

func TestFileSystemsAreChecked(t *testing.T) {
	guesttest.Need(t, slices.Concat(guesttest.Programs, guesttest.CheckPrograms)...)
	disks := []string{guesttest.Checks(t, func(disk string) guest.Guest { return openDisks(t, disk) })}
	g := openDisks(t, append(disks, guesttest.Disks(t)...)...)
	guesttest.Check(t, g, "disk0")
	if h, err := g.Check(t.Context(), "disk1p5"); err != nil || h.State != guest.Unchecked {
		t.Errorf("Check of swap space = %+v, %v", h, err)
	}
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

func TestACheckEndsWithItsContext(t *testing.T) {
	guesttest.Need(t, slices.Concat(guesttest.Programs, guesttest.CheckPrograms)...)
	name := filepath.Join(t.TempDir(), "disk.raw")
	guesttest.Make(t, name, "ext4", 16<<20)
	g := openDisks(t, name)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("operator")
	cancel(why)
	if _, err := g.Check(ctx, "disk0"); !errors.Is(err, why) {
		t.Errorf("Check: error %v, want the cause", err)
	}
	must(t, g.Close())
	requireNothingLeft(t, []string{name})
}

func TestFATAndBtrfsAreChecked(t *testing.T) {
	for _, c := range []struct {
		fstype, checker string
		damage          func(testing.TB, guesttest.Device)
	}{
		{"vfat", "fsck.fat", guesttest.DamageFAT},
		{"btrfs", "btrfs", guesttest.DamageBtrfs},
	} {
		t.Run(c.fstype, func(t *testing.T) {
			needKind(t, c.fstype)
			guesttest.Need(t, c.checker)
			name := made(t, c.fstype, guesttest.BlankSize)
			g := openDisks(t, name)
			must(t, g.Mount("disk0", "/"))
			must(t, g.WriteFile("/file", 0, []byte("content\n")))
			must(t, g.UnmountAll())
			wantHealth(t, g, guest.Clean)
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			must(t, err)
			c.damage(t, f)
			must(t, f.Close())
			wantHealth(t, g, guest.Damaged)
			must(t, g.Close())
			requireNothingLeft(t, []string{name})
		})
	}
}

func wantHealth(t *testing.T, g *shown, want guest.Condition) {
	t.Helper()
	if h, err := g.Check(t.Context(), "disk0"); err != nil || h.State != want {
		t.Errorf("Check = %+v, %v, want %s", h, err, want)
	}
}
