package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers"
	"hyper2kvm/testers/watch"
)

// damaged takes an inode away from a folder that names it, in a file system on
// a disk.
func damaged(t *testing.T, raw string, offset string) string {
	t.Helper()
	needTools(t, "debugfs")
	if _, err := proc.Run(t.Context(), "debugfs", "-w", "-R", "clri /lost+found", raw+"?offset="+offset); err != nil {
		t.Fatal(err)
	}
	return raw
}

// withData adds a second disk's worth of data to the small guest, mounted at /srv.
func withData(t *testing.T, raw string) string {
	t.Helper()
	run := func(stdin, name string, args ...string) {
		t.Helper()
		if _, err := (proc.Command{Name: name, Args: args, Stdin: strings.NewReader(stdin)}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(raw, 64<<20); err != nil {
		t.Fatal(err)
	}
	run("label: dos\n2048,63488,83\n65536,32768,83\n", "sfdisk", "-q", raw)
	run("", "mke2fs", "-q", "-F", "-t", "ext4", "-U", "11111111-2222-4333-8444-555555555521", "-E", "offset=33554432", raw, "16m")
	fstab := filepath.Join(t.TempDir(), "fstab")
	text := "# made by the installer\n/dev/sda1\t/\text4\tdefaults 0 1\nUUID=11111111-2222-4333-8444-555555555521 /srv ext4 defaults 0 2\n"
	if err := os.WriteFile(fstab, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run("rm /etc/fstab\nmkdir /srv\nwrite "+fstab+" /etc/fstab\n", "debugfs", "-w", "-f", "-", raw+"?offset=1048576")
	return raw
}

func TestDataThatWasDamagedBeforeIsAWarning(t *testing.T) {
	source, folder := damaged(t, withData(t, small(t)), "33554432"), filepath.Join(t.TempDir(), "small")
	r := migrated(t, folder, source)
	want := []guest.Health{{Device: "disk0p1", Type: "ext4", State: guest.Clean}, {Device: "disk0p2", Type: "ext4", State: guest.Damaged}}
	got := slices.Clone(r.Checks.Before)
	for i := range got {
		got[i].Text = ""
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("checks in INSPECT (-want +got):\n%s", d)
	}
	if after := r.Checks.After; len(after) != 1 || after[0].Device != "disk0p1" || after[0].State != guest.Clean {
		t.Errorf("checks in FIX, which wrote to the root alone: %+v", after)
	}
	i := slices.IndexFunc(r.Plan.Concerns, func(c fixer.Concern) bool { return c.Code == damageCode })
	if i < 0 || r.Plan.Concerns[i].Level != fixer.Warning || !strings.Contains(r.Plan.Concerns[i].Text, "disk0p2 (ext4, mounted at /srv) was damaged before the migration: e2fsck: Entry 'lost+found'") {
		t.Errorf("concerns: %+v", r.Plan.Concerns)
	}
	text, err := os.ReadFile(filepath.Join(folder, "small-report.md"))
	if err != nil || !strings.Contains(string(text), "| disk0p2 | ext4 | **damaged** |") {
		t.Errorf("the report does not tell of it: %v\n%s", err, text)
	}
}

func TestARootThatWasDamagedBeforeBlocks(t *testing.T) {
	source, folder := damaged(t, small(t), "1048576"), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, noTest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Go(t.Context()); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "run fsck in the guest and migrate again") {
		t.Errorf("Go = %v, want %v", err, ErrBlocked)
	}
}

// sick is a guest whose file systems are found damaged from the nth check on.
type sick struct {
	guest.Guest
	checks *int
	from   int
}

func (s sick) Check(ctx context.Context, device string) (guest.Health, error) {
	h, err := s.Guest.Check(ctx, device)
	if *s.checks++; *s.checks >= s.from {
		h.State, h.Text = guest.Damaged, "e2fsck: damage"
	}
	return h, err
}

// sickening opens guests with the direct engine that are damaged later.
func sickening(from int) engineFunc {
	checks := 0
	return func(ctx context.Context, name string, s *disk.Storage, c accel.Choice, log *slog.Logger) (guest.Guest, error) {
		g, err := openEngine(ctx, name, s, c, nil, log)
		return sick{g, &checks, from}, err
	}
}

func TestDamageByFIXEndsTheMigration(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, noTest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.engine = sickening(2)
	if err := r.Go(t.Context()); !errors.Is(err, ErrDamage) || r.Stage("fix").State != Failed {
		t.Errorf("Go = %v, fix %v, want %v", err, r.Stage("fix").State, ErrDamage)
	}
}

func TestDamageByTheCopyIsNoProof(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	for from, want := range map[int]bool{3: false, 4: true} {
		r, err := open(t, filepath.Join(folder, string(rune('0'+from))), source, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.engine = sickening(from)
		r.machines = runBy(func(context.Context, watch.Spec) (testers.Session, error) {
			return testers.Session{End: testers.Hung}, nil
		})
		if err := r.Go(t.Context()); !errors.Is(err, ErrNotProved) {
			t.Errorf("Go = %v, want %v", err, ErrNotProved)
		}
		i := slices.IndexFunc(r.Outcome.Answers, func(a testers.Answer) bool { return a.Name == "filesystems-clean" })
		if i < 0 || r.Outcome.Answers[i].OK != want {
			t.Errorf("damaged from check %d on: %+v, want %v", from, r.Outcome.Answers, want)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatFIXWroteToIsFoundByItsFolder(t *testing.T) {
	f := inspect.Facts{Mounts: []inspect.Mount{{Device: "vg/root", Path: "/"}, {Device: "disk0p2", Path: "/boot"}, {Device: "disk0p1", Path: "/boot/efi"},
		{Device: "vg/swap", Path: "none", Type: "swap"}, {Path: "/lost"}, {Device: "vg/root", Path: "/again"}}}
	for want, paths := range map[string][]string{
		"vg/root":                 {"/etc/fstab", "/bootstrap", "/lost/x", "/again/x"},
		"disk0p2 disk0p1":         {"/boot/initrd.img", "/boot/efi/EFI/BOOT/BOOTX64.EFI", "/boot"},
		"disk0p1 vg/root disk0p2": {"/boot/efi/x", "/etc/x", "/boot/grub/grub.cfg"},
		"":                        nil,
	} {
		var changes []guest.Change
		for _, p := range paths {
			changes = append(changes, guest.Change{Path: p})
		}
		if got := strings.Join(writtenTo(f, changes), " "); got != want {
			t.Errorf("writtenTo(%v) = %q, want %q", paths, got, want)
		}
	}
	if got := mounted(f); !slices.Equal(got, []string{"vg/root", "disk0p2", "disk0p1"}) {
		t.Errorf("mounted = %q", got)
	}
}
