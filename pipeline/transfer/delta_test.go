package transfer

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/disk"
)

func TestRangesAreBroughtIntoTheirOrder(t *testing.T) {
	got, err := normal([]Range{{50, 10}, {0, 5}, {55, 10}, {5, 5}, {20, 0}, {99, 1}}, 100)
	if d := cmp.Diff([]Range{{0, 10}, {50, 15}, {99, 1}}, got); d != "" || err != nil {
		t.Errorf("normal: %v, (-want +got):\n%s", err, d)
	}
	for _, r := range []Range{{-1, 5}, {99, 2}, {5, -1}, {1 << 62, 1 << 62}} {
		if _, err := normal([]Range{r}, 100); !errors.Is(err, ErrSource) {
			t.Errorf("normal of %+v: %v, want %v", r, err, ErrSource)
		}
	}
}

// replica is a copy of some data, the data as they are then, and what changed: a
// bit in the middle of a chunk, runs over boundaries, data where there was a hole
// and a hole where there were data.
func replica(t *testing.T, format string) (Delta, []byte) {
	t.Helper()
	data := patterned(20<<20 + 4096)
	job := jobOf(source(t, data), t.TempDir(), disk.Shape{Format: format})
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
		t.Fatal(err)
	}
	now := bytes.Clone(data)
	now[3<<20+77] ^= 1
	copy(now[7<<20-4096:], bytes.Repeat([]byte{5}, 8192))
	copy(now[11<<20:], bytes.Repeat([]byte{6}, 3<<20))
	clear(now[6<<20 : 6<<20+512<<10])
	copy(now[20<<20:], bytes.Repeat([]byte{7}, 4096))
	d := Delta{job, []Range{{3 << 20, 64 << 10}, {7<<20 - 4096, 8192}, {11 << 20, 3 << 20}, {6 << 20, 512 << 10}, {20 << 20, 4096}}}
	d.ID, d.From = "the first delta", source(t, now).Export
	return d, now
}

func TestADeltaMakesTheTargetWhatTheSourceIsNow(t *testing.T) {
	for _, format := range []string{disk.Raw, disk.QCOW2} {
		d, now := replica(t, format)
		got, err := Parallel{}.Update(t.Context(), []Delta{d}, silent)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, d.To.Path, format), now) {
			t.Errorf("%s: the target differs", format)
		}
		if wire := got[0].Wire; wire == 0 || wire > 4<<20 {
			t.Errorf("%s: %d bytes were read", format, wire)
		}
		verified(t, d.Job)
		again, err := Parallel{}.Copy(t.Context(), []Job{jobOfContent(t, now)}, silent)
		if err != nil || again[0].Content != got[0].Content {
			t.Errorf("%s: the digest is %s, of a copy it is %s, %v", format, got[0].Content, again[0].Content, err)
		}
	}
}

func jobOfContent(t *testing.T, data []byte) Job {
	t.Helper()
	return jobOf(source(t, data), t.TempDir(), disk.Shape{Format: disk.Raw})
}

func verified(t *testing.T, job Job) {
	t.Helper()
	s, err := disk.OpenSource(t.Context(), job.To.Path, job.To.Format)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: job.To.Manifest(), From: s.Export, Source: false}, silent); err != nil {
		t.Errorf("Verify = %+v, %v", v, err)
	}
}

// What was interrupted is told to be half done, is not taken up by another delta,
// and is run to its end by the same.
func TestAnInterruptedDeltaIsGoneOnWith(t *testing.T) {
	d, now := replica(t, disk.Raw)
	gone := d
	gone.From.Socket += ".gone"
	s, err := d.begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := isSealed(d.To.Manifest()); !errors.Is(err, ErrManifest) {
		t.Errorf("a target that is half updated: %v, want %v", err, ErrManifest)
	}
	if _, err := (Parallel{}).Update(t.Context(), []Delta{gone}, silent); !errors.Is(err, ErrSource) {
		t.Errorf("a delta of nothing: %v, want %v", err, ErrSource)
	}
	other := d
	other.ID = "the second delta"
	if _, err := (Parallel{}).Update(t.Context(), []Delta{other}, silent); !errors.Is(err, ErrManifest) {
		t.Errorf("another delta over half of one: %v, want %v", err, ErrManifest)
	}
	another := d.Job
	another.ID = "another copy"
	if _, err := (Parallel{}).Copy(t.Context(), []Job{another}, silent); !errors.Is(err, ErrTarget) {
		t.Errorf("a copy over half of a delta: %v, want %v", err, ErrTarget)
	}
	if _, err := (Parallel{}).Update(t.Context(), []Delta{d}, silent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, d.To.Path, disk.Raw), now) {
		t.Error("the target differs")
	}
	verified(t, d.Job)
	if left := filesIn(t, d.To.Path[:len(d.To.Path)-len("/out.raw")]); len(left) != 2 {
		t.Errorf("left behind: %q", left)
	}
}

func TestADeltaNeedsAWholeCopy(t *testing.T) {
	d, _ := replica(t, disk.Raw)
	if err := os.Remove(d.To.Manifest()); err != nil {
		t.Fatal(err)
	}
	if _, err := (Parallel{}).Update(t.Context(), []Delta{d}, silent); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a delta without a manifest: %v", err)
	}
}

// A delta that a failing machine interrupted is gone on with as well.
func TestADeltaGoesOnAfterTheMachineWasStarted(t *testing.T) {
	d, now := replica(t, disk.Raw)
	s, err := d.begin()
	if err != nil {
		t.Fatal(err)
	}
	told := s.manifest.set(3, digestOf(now[3<<20:4<<20])) // and lost
	if err := errors.Join(told, s.journal.add(s.manifest, 3, 1), s.close()); err != nil {
		t.Fatal(err)
	}
	pretendAnotherBoot(t, d.To.journal())
	for range 2 {
		if _, err := (Parallel{}).Update(t.Context(), []Delta{d}, silent); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, d.To.Path, disk.Raw), now) {
			t.Error("the target differs")
		}
		verified(t, d.Job)
	}
}
