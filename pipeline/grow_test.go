package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/pipeline/source"
)

func TestAGrowthIsASizeOrWhatIsAdded(t *testing.T) {
	for _, test := range []struct {
		texts []string
		want  []Growth
		err   string
	}{
		{nil, nil, ""},
		{[]string{"0=20G"}, []Growth{{0, 20 << 30, false, ""}}, ""},
		{[]string{"1=+4g", "0=512"}, []Growth{{1, 4 << 30, true, ""}, {0, 512, false, ""}}, ""},
		{[]string{"20G"}, nil, "names no disk"},
		{[]string{"disk0=20G"}, nil, "names no disk"},
		{[]string{"-1=20G"}, nil, "names no disk"},
		{[]string{"0="}, nil, "is no size"},
		{[]string{"0=-1G"}, nil, "is no size"},
		{[]string{"0=+0"}, nil, "is no size"},
		{[]string{"0=20G=1"}, nil, "is no size"},
		{[]string{"0=+4G:srv", "1=20G:web-vg/root"}, []Growth{{0, 4 << 30, true, "srv"}, {1, 20 << 30, false, "web-vg/root"}}, ""},
		{[]string{"0=+4G:"}, nil, "names no logical volume"},
		{[]string{"0=:srv"}, nil, "is no size"},
		{[]string{"0=513"}, nil, "no multiple of 512"},
		{[]string{"0=20G", "0=30G"}, nil, "named twice"},
	} {
		got, err := ParseGrowth(test.texts)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("ParseGrowth(%q) (-want +got):\n%s", test.texts, diff)
		}
		if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("ParseGrowth(%q): error %v, want %q", test.texts, err, test.err)
		}
	}
}

func TestADiskIsNeverMadeSmaller(t *testing.T) {
	for _, test := range []struct {
		name string
		grow Growth
		err  string
	}{
		{"larger", Growth{1, 30 << 30, false, ""}, ""},
		{"larger by some", Growth{1, 512, true, ""}, ""},
		{"as large", Growth{1, 20 << 30, false, ""}, ""},
		{"smaller", Growth{1, 20<<30 - 512, false, ""}, "is not made smaller"},
		{"not there", Growth{2, 30 << 30, false, ""}, "there is no disk 2"},
		{"too large", Growth{1, 63 << 40, false, ""}, "beyond 62 TiB"},
		{"too large by some", Growth{1, 62 << 40, true, ""}, "beyond 62 TiB"},
		{"more than can be counted", Growth{1, 1 << 62, true, ""}, "beyond 62 TiB"},
	} {
		r := &Run{Migration: &Migration{Options: Options{Grow: []Growth{test.grow}}, Machine: machine.Machine{Disks: []machine.Disk{{Size: 10 << 30}, {Size: 20 << 30}}}}}
		err := r.mayGrow()
		if test.err == "" && err != nil || test.err != "" && (!errors.Is(err, source.ErrBadInput) || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.err)
		}
	}
}

func TestADiskWhoseEndIsLookedForDoesNotGrow(t *testing.T) {
	guesttest.Need(t, slices.Concat(guesttest.Programs, []string{"qemu-storage-daemon"})...)
	name := guesttest.Arrays(t)[4] // a member as a whole
	r, err := open(t, filepath.Join(t.TempDir(), "whole"), name, func(o *Options) {
		noTest(o)
		o.Grow = []Growth{{Disk: 0, Size: 1 << 20, More: true}}
	})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Go(t.Context())
	if !errors.Is(err, source.ErrBadInput) || !strings.Contains(err.Error(), "disk 0 as a whole is a member of an array") {
		t.Errorf("Go = %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// larger asks for a disk of 200 MiB, and for no test.
func larger(o *Options) {
	noTest(o)
	o.Grow = []Growth{{Disk: 0, Size: 200 << 20}}
}

// spanOf is how large the file system of a converted disk is, and its disk.
func spanOf(t *testing.T, path string) (span, size int64) {
	t.Helper()
	lookInto(t, path, func(g guest.Guest) {
		span, size = g.Topology().Filesystems[0].Span, g.Topology().Disks[0].Size
	})
	return span, size
}

func TestADiskGrowsWithItsFileSystem(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	before := digest(t, source)
	r, err := open(t, folder, source, larger)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	if got := digest(t, source); got != before {
		t.Error("the source was written")
	}
	if len(r.Again.Resizes)+len(r.Again.Changes) > 0 || len(r.Plan.Concerns) > 0 {
		t.Errorf("planning again gives %+v, and there are concerns: %+v", r.Again, r.Plan.Concerns)
	}
	if span, size := spanOf(t, r.Disks[0].Path); span != 199<<20 || size != 200<<20 {
		t.Errorf("the file system spans %d bytes of a disk of %d", span, size)
	}
	if text := PlanText(*r.Plan); !strings.Contains(text, "disk0: from 32 MiB to 200 MiB\n  disk0p1 (partition 1) ends at 200 MiB instead of 32 MiB\n  ext4 on disk0p1 grows from 31 MiB to 199 MiB\n") {
		t.Errorf("the plan reads:\n%s", text)
	}
	list, err := reopened(t, folder).Verify(t.Context(), true)
	if err != nil || len(list) != 2 || list[1].Size != 200<<20 {
		t.Errorf("Verify = %+v, %v", list, err)
	}
}

func reopened(t *testing.T, folder string) *Run {
	t.Helper()
	r, err := Reopen(Config{Folder: folder, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestUndoKeepsADisksSize(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, larger)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	r = reopened(t, folder)
	if err := r.UndoAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := fileOf(t, r.Disks[0].Path, "/etc/fstab"), fileOf(t, source, "/etc/fstab"); got != want {
		t.Errorf("fstab is %q, want %q", got, want)
	}
	if span, size := spanOf(t, r.Disks[0].Path); span != 199<<20 || size != 200<<20 {
		t.Errorf("the file system spans %d bytes of a disk of %d", span, size)
	}
	if got := (Report{Migration: r.Migration}).verdict(); !strings.Contains(got, "Its size stays: disk 0 has 200 MiB, and had 32 MiB in the source.") {
		t.Errorf("the report says %q", got)
	}
}

// An approved plan says by itself how disks grow, and nothing else is done.
func TestADiskGrowsAsItWasApproved(t *testing.T) {
	source := small(t)
	r, err := open(t, filepath.Join(t.TempDir(), "small"), source, func(o *Options) { larger(o); o.Until = "plan" })
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r.Plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   error
	}{
		{"as it is", func(*Options) {}, nil},
		{"with the same size", func(o *Options) { o.Grow = []Growth{{0, 168 << 20, true, ""}} }, nil},
		{"with another size", func(o *Options) { o.Grow = []Growth{{0, 100 << 20, false, ""}} }, errConflict},
		{"with another end", func(o *Options) { o.Plan.Resizes[0].Partitions[0].To -= 1 << 20 }, errConflict},
		{"without what is to be done", func(o *Options) { o.Plan.Resizes, o.Grow = nil, []Growth{{0, 200 << 20, false, ""}} }, errConflict},
		{"with a disk that is not there", func(o *Options) { o.Plan.Resizes = append(o.Plan.Resizes, guest.Resize{Disk: "disk7", To: 1 << 30}) }, errBadInput},
	} {
		approved := fixers.Plan{}
		if err := json.Unmarshal(text, &approved); err != nil {
			t.Fatal(err)
		}
		r, err := open(t, filepath.Join(t.TempDir(), "small"), source, func(o *Options) { noTest(o); o.Plan = &approved; test.change(o) })
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
		if test.want != nil {
			continue
		}
		if span, _ := spanOf(t, r.Disks[0].Path); span != 199<<20 {
			t.Errorf("%s: the file system spans %d bytes", test.name, span)
		}
	}
}

var errBadInput = source.ErrBadInput

// A run that was killed begins the stage again, on an overlay of the same size.
func TestAGrowingDiskKeepsItsSizeWhenAStageBeginsAgain(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, larger)
	if err != nil {
		t.Fatal(err)
	}
	r.engine = growsOnce(r.engine)
	if err := r.Go(t.Context()); !errors.Is(err, errHalfGrown) {
		t.Fatalf("Go: %v, want %v", err, errHalfGrown)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, folder, source, noTest); !errors.Is(err, ErrRecord) {
		t.Errorf("gone on with at another size: %v, want %v", err, ErrRecord)
	}
	if r, err = open(t, folder, source, larger); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	if span, size := spanOf(t, r.Disks[0].Path); span != 199<<20 || size != 200<<20 {
		t.Errorf("the file system spans %d bytes of a disk of %d", span, size)
	}
}

var errHalfGrown = errors.New("half grown")

// halfway is a guest whose partition table grows, and not its file system.
type halfway struct{ guest.Guest }

func (h halfway) Grow(ctx context.Context, r guest.Resize) error {
	r.Filesystem = nil
	return errors.Join(h.Guest.Grow(ctx, r), errHalfGrown)
}

func growsOnce(engine engineFunc) engineFunc {
	return func(ctx context.Context, name string, s *disk.Storage, c accel.Choice, log *slog.Logger) (guest.Guest, error) {
		g, err := engine(ctx, name, s, c, log)
		return halfway{g}, err
	}
}

// idle is a guest that says that it grew.
type idle struct{ guest.Guest }

func (idle) Grow(context.Context, guest.Resize) error { return nil }

func TestAFileSystemThatDidNotGrowIsToldOf(t *testing.T) {
	r, err := open(t, filepath.Join(t.TempDir(), "small"), small(t), larger)
	if err != nil {
		t.Fatal(err)
	}
	real := r.engine
	r.engine = func(ctx context.Context, name string, s *disk.Storage, c accel.Choice, log *slog.Logger) (guest.Guest, error) {
		g, err := real(ctx, name, s, c, log)
		return idle{g}, err
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.Plan.Concerns, func(c fixer.Concern) bool { return c.Code == "fix/not-settled" }) {
		t.Errorf("the concerns are %+v", r.Plan.Concerns)
	}
}

// What is at the end of a disk may be mounted by nobody, and is checked all the same.
func TestAFileSystemGrowsThatIsNotMounted(t *testing.T) {
	raw, fstab := withData(t, small(t)), filepath.Join(t.TempDir(), "fstab")
	if err := os.WriteFile(fstab, []byte("/dev/sda1 / ext4 defaults 0 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"rm /etc/fstab", "write " + fstab + " /etc/fstab"} {
		if _, err := proc.Run(t.Context(), "debugfs", "-w", "-R", command, raw+"?offset=1048576"); err != nil {
			t.Fatal(err)
		}
	}
	r, err := open(t, filepath.Join(t.TempDir(), "small"), raw, larger)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	if got := r.Fixed.Topology.Filesystems[1]; got.Span != 168<<20 || got.Size != 168<<20 {
		t.Errorf("it is %+v, want it to span 168 MiB", got)
	}
	if got := r.Fixed.Topology.Filesystems[0]; got.Span != 31<<20 {
		t.Errorf("the one in front of it is %+v", got)
	}
	for what, checks := range map[string][]guest.Health{"before": r.Checks.Before, "after": r.Checks.After} {
		if find(checks, "disk0p2").State != guest.Clean {
			t.Errorf("%s it was not checked: %+v", what, checks)
		}
	}
}

func TestADamagedFileSystemDoesNotGrow(t *testing.T) {
	raw := damaged(t, small(t), "1048576")
	r, err := open(t, filepath.Join(t.TempDir(), "small"), raw, func(o *Options) { larger(o); o.Until = "plan" })
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Plan.Concerns, func(c fixer.Concern) bool { return c.Code == unusedCode })
	if i < 0 || !strings.Contains(r.Plan.Concerns[i].Text, "disk0p1 is damaged") || r.Plan.Resizes[0].Filesystem != nil {
		t.Errorf("the plan is %s", PlanText(*r.Plan))
	}
}
