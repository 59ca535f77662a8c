package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/source"
)

// inGroup is the small guest with its root in LVM, and volumes behind that.
func inGroup(t *testing.T, behind ...string) string {
	t.Helper()
	raw := small(t)
	needTools(t, slices.Concat(guesttest.VolumePrograms, []string{"debugfs"})...)
	return guesttest.InGroup(t, raw, behind...)
}

// by asks for a disk of 100 MiB more, with a volume, and for no test.
func by(volume string) func(*Options) {
	return func(o *Options) {
		noTest(o)
		o.Grow = []Growth{{Disk: 0, Size: 100 << 20, More: true, Volume: volume}}
	}
}

// spanned is how large a file system of a converted disk is, and its device.
func spanned(t *testing.T, path, device string) (span, size int64) {
	t.Helper()
	lookInto(t, path, func(g guest.Guest) {
		for _, f := range g.Topology().Filesystems {
			if f.Device == device {
				span, size = f.Span, f.Size
			}
		}
	})
	return span, size
}

func done(t *testing.T, r *Run) {
	t.Helper()
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestTheRootsVolumeGrowsWithItsDisk(t *testing.T) {
	source := inGroup(t)
	before := digest(t, source)
	r, err := open(t, filepath.Join(t.TempDir(), "small"), source, by(""))
	if err != nil {
		t.Fatal(err)
	}
	done(t, r)
	if got := digest(t, source); got != before {
		t.Error("the source was written")
	}
	if len(r.Again.Resizes)+len(r.Again.Changes) > 0 || len(r.Plan.Concerns) > 0 {
		t.Errorf("planning again gives %+v, and there are concerns: %+v", r.Again, r.Plan.Concerns)
	}
	if span, size := spanned(t, r.Disks[0].Path, "vg/root"); span != 132<<20 || size != 132<<20 {
		t.Errorf("the file system spans %d bytes of a volume of %d", span, size)
	}
	want := `disk0: from 37 MiB to 137 MiB
  disk0p1 (partition 1) ends at 137 MiB instead of 37 MiB
  the volume group vg gains 100 MiB on disk0p1 (33 extents instead of 8)
  the logical volume vg/root grows from 32 MiB to 132 MiB
  ext4 on vg/root grows from 31 MiB to 132 MiB
`
	if text := PlanText(*r.Plan); !strings.Contains(text, want) {
		t.Errorf("the plan reads:\n%s", text)
	}
	if find(r.Checks.After, "vg/root").State != guest.Clean {
		t.Errorf("after FIX it was not checked: %+v", r.Checks.After)
	}
}

func TestAVolumeGrowsThatIsNamed(t *testing.T) {
	source := inGroup(t, "swap", "data")
	r, err := open(t, filepath.Join(t.TempDir(), "small"), source, by("data"))
	if err != nil {
		t.Fatal(err)
	}
	done(t, r)
	if span, _ := spanned(t, r.Disks[0].Path, "vg/data"); span != 116<<20 {
		t.Errorf("vg/data has a file system that spans %d bytes", span)
	}
	if span, _ := spanned(t, r.Disks[0].Path, "vg/root"); span != 31<<20 {
		t.Errorf("vg/root has a file system that spans %d bytes", span)
	}
	if len(r.Plan.Concerns) > 0 || len(r.Again.Resizes) > 0 {
		t.Errorf("concerns %+v, planning again %+v", r.Plan.Concerns, r.Again.Resizes)
	}
	approved := *r.Plan // says by itself which volume
	again, err := open(t, filepath.Join(t.TempDir(), "small"), source, func(o *Options) { noTest(o); o.Plan = &approved })
	if err != nil {
		t.Fatal(err)
	}
	done(t, again)
	if span, _ := spanned(t, again.Disks[0].Path, "vg/data"); span != 116<<20 {
		t.Errorf("as it was approved, vg/data has a file system that spans %d bytes", span)
	}
}

func TestAVolumeThatCannotGrowIsRefusedByName(t *testing.T) {
	raw := inGroup(t, "swap", "data")
	for volume, want := range map[string]string{
		"none": "none cannot grow with disk 0: there is no none in the volume group vg, which has vg/data, vg/root, vg/swap; name one with the size",
		"swap": "swap cannot grow with disk 0: vg/swap does not grow: vg/swap is swap space",
	} {
		r, err := open(t, filepath.Join(t.TempDir(), "small"), raw, by(volume))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, source.ErrBadInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", volume, err, want)
		}
	}
	r, err := open(t, filepath.Join(t.TempDir(), "small"), small(t), by("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, source.ErrBadInput) || !strings.Contains(err.Error(), "data cannot grow with disk 0: what is at its end is no physical volume of LVM") {
		t.Errorf("on a disk without LVM: %v", err)
	}
}

// noMapper is a kernel without device-mapper.
func noMapper() error { return errors.New("this kernel has none") }

func TestAVolumeThatWouldLieInPiecesTakesTheOtherEngine(t *testing.T) {
	raw := inGroup(t, "swap")
	folder := filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, raw, by(""))
	if err != nil {
		t.Fatal(err)
	}
	r.noMapper = noMapper
	err = errors.Join(r.Go(t.Context()), r.Close())
	if want := "the direct engine cannot grow this guest: vg/root will lie in several pieces when it has grown, and device-mapper does not work here: this kernel has none; leave the choice of the engine to a build with libguestfs (make build), or name a volume at the group's end"; !errors.Is(err, ErrEngine) || !strings.Contains(err.Error(), want) {
		t.Errorf("with the direct engine alone: %v", err)
	}

	if r, err = open(t, folder, raw, func(o *Options) { by("")(o); o.Engine = Auto }); err != nil {
		t.Fatal(err)
	}
	var engines []string
	real := r.engine
	r.noMapper, r.packaged = noMapper, true
	r.engine = func(ctx context.Context, name string, s *disk.Storage, c accel.Choice, log *slog.Logger) (guest.Guest, error) {
		engines = append(engines, name)
		g, err := real(ctx, Direct, s, c, log)
		return idle{g}, err
	}
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	if want := []string{Direct, Libguestfs}; !slices.Equal(engines[:2], want) || r.Engine.Name != Libguestfs || !strings.Contains(r.Engine.Reason, "vg/root will lie in several pieces") {
		t.Errorf("taken are %q, at last %+v", engines, r.Engine)
	}
	if got := r.Plan.Resizes[0].Volume; got == nil || !got.Apart {
		t.Errorf("planned is %+v", got)
	}
	if !strings.Contains(PlanText(*r.Plan), "the logical volume vg/root grows from 32 MiB to 132 MiB, with another piece behind its neighbours\n") {
		t.Errorf("the plan reads:\n%s", PlanText(*r.Plan))
	}
	if !slices.ContainsFunc(r.Plan.Concerns, func(c fixer.Concern) bool { return c.Code == "fix/not-settled" }) {
		t.Errorf("a group that did not grow is not told of: %+v", r.Plan.Concerns)
	}
}

// A run that was killed when a group had grown, and not the file system, begins again.
func TestAGroupThatHasHalfGrownIsThrownAway(t *testing.T) {
	raw, folder := inGroup(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, raw, by(""))
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
	if r, err = open(t, folder, raw, by("")); err != nil {
		t.Fatal(err)
	}
	done(t, r)
	if span, size := spanned(t, r.Disks[0].Path, "vg/root"); span != 132<<20 || size != 132<<20 {
		t.Errorf("the file system spans %d bytes of a volume of %d", span, size)
	}
}

func TestAGroupsDamagedFileSystemDoesNotGrow(t *testing.T) {
	raw := damaged(t, inGroup(t), "2097152")
	r, err := open(t, filepath.Join(t.TempDir(), "small"), raw, func(o *Options) { by("")(o); o.Until = "plan" })
	if err != nil {
		t.Fatal(err)
	}
	done(t, r)
	s := r.Plan.Resizes[0]
	if s.Member == nil || s.Volume != nil || !strings.Contains(s.Unused, "vg/root does not grow: the file system on vg/root is damaged") {
		t.Errorf("the plan is %s", PlanText(*r.Plan))
	}
	want := "or in the guest: lvextend --resizefs --extents +25 /dev/vg/root"
	if !slices.ContainsFunc(r.Plan.Concerns, func(c fixer.Concern) bool { return c.Code == unusedCode && strings.HasSuffix(c.Try, want) }) {
		t.Errorf("the concerns are %+v", r.Plan.Concerns)
	}
}
