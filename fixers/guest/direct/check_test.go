package direct

import (
	"context"
	"errors"
	"fmt"
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

// standIn has the mounter run a script in place of a program, which finds a folder of its
// own in $own; what the script says is the program's word.
func standIn(t *testing.T, program, script string) (own string) {
	t.Helper()
	bin, own := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", t.TempDir()) // the mounter covers it
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	must(t, os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\nown="+own+"\n"+script), 0o755))
	return own
}

// TestACheckerHasOneDeviceAndNoRights has a script in the checker's place, which says what
// it can do.
func TestACheckerHasOneDeviceAndNoRights(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	for name, c := range map[string]struct{ script, want string }{
		"rights": {`grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; exit 4`,
			"e2fsck: CapEff:\t0000000000000000; CapBnd:\t0000000000000000; NoNewPrivs:\t1"},
		"files": {`exec 2>/dev/null
			(: > $own/made) && echo made a file
			(: >> $own/there) && echo wrote to a file
			chmod 4755 $own/there && echo changed a mode
			chown 1 $own/there && echo changed an owner
			ln -s x $own/link && echo made a link
			rm $own/there && echo removed a file
			(: > /proc/self/comm) && echo wrote to /proc
			cat $own/there; exit 4`, "e2fsck: content"},
		"devices": {`exec 2>/dev/null
			head -c 512 "$3" >/dev/null || echo cannot read the device
			(: >> "$3") && echo can write the device
			for other in /dev/loop* /dev/vd* /dev/sd*; do [ "$other" = "$3" ] || ! [ -b "$other" ] || ! head -c 512 "$other" >/dev/null || echo read $other; done
			echo looked; exit 4`, "e2fsck: looked"},
		"processes": {`exec 2>/dev/null
			kill -0 $PPID && echo can signal
			readlink /proc/$PPID/fd/0 >/dev/null && echo can see the files of others
			unshare -U true && echo can be root elsewhere
			echo looked; exit 4`, "e2fsck: looked"},
	} {
		t.Run(name, func(t *testing.T) {
			if version, err := landlockVersion(); name != "rights" && version == 0 {
				guesttest.Missing(t, fmt.Sprintf("this kernel has no Landlock: %v", err))
			}
			own := standIn(t, "e2fsck", c.script)
			must(t, os.WriteFile(filepath.Join(own, "there"), []byte("content\n"), 0o644))
			g := openDisks(t, made(t, "ext4", 16<<20))
			if h, err := g.Check(t.Context(), "disk0"); err != nil || h.Text != c.want {
				t.Errorf("Check = %q, %v, want %q", h.Text, err, c.want)
			}
		})
	}
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
