package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/testers"
	"hyper2kvm/testers/watch"
)

// host plays a hypervisor that has the guest: its disk is read as a remote one, and it is
// at rest from Fetch to a Release that gives it back.
type host struct {
	path     string
	said     []string
	ends     []End
	changed  bool
	doubt    error  // that Same has
	lost     error  // of the next Release, which is done and not told of
	closing  func() // called when the disk is closed
	concerns []fixer.Concern
}

func (h *host) Fetch(ctx context.Context) (machine.Machine, error) {
	h.said, h.changed = append(h.said, "fetch"), false
	m, err := source.Read(ctx, h.path, nil)
	m.NICs = []machine.NIC{{MAC: "52:54:00:00:00:01"}}
	return m, err
}

func (h *host) Open(context.Context, machine.Machine) ([]*disk.Source, []Identity, error) {
	h.said = append(h.said, "open")
	f, err := os.Open(h.path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	return []*disk.Source{disk.FromRemote(&lentFile{f, info.Size(), h.closing})}, []Identity{{Path: "[ds] small.vmdk", Size: info.Size()}}, err
}

func (h *host) Same(context.Context, []Identity) error {
	if h.changed {
		return ErrSourceChanged
	}
	return h.doubt
}

func (h *host) Doubt() { h.said = append(h.said, "doubt") }

func (h *host) Concerns() []fixer.Concern { return h.concerns }

func (h *host) Carried() []Carried {
	return []Carried{{By: "https", Read: 4711, Not: []string{"vddk: there is no library"}}}
}

// Release gives the guest back unless it is finished or to be gone on with.
func (h *host) Release(_ context.Context, e End) (bool, error) {
	h.said, h.ends = append(h.said, "release"), append(h.ends, e)
	h.changed = !e.Finished && !e.Interrupted
	if err := h.lost; err != nil {
		h.lost = nil
		return false, err
	}
	return h.changed, nil
}

type lentFile struct {
	*os.File
	size    int64
	closing func()
}

func (l *lentFile) Close() error {
	if l.closing != nil {
		l.closing()
	}
	return l.File.Close()
}

func (l *lentFile) Size() int64 { return l.size }

func (l *lentFile) Read(_ context.Context, p []byte, off int64) error {
	_, err := l.ReadAt(p, off)
	return err
}

func (l *lentFile) Extents(_ context.Context, off, n int64) ([]disk.Allocation, error) {
	length, hole, err := disk.Hole(l.File, off, n)
	return []disk.Allocation{{Offset: off, Length: length, Zero: hole}}, err
}

// from opens a migration whose guest is a host's.
func from(t *testing.T, folder string, h *host, change func(*Options)) *Run {
	t.Helper()
	r, err := open(t, folder, h.path, change)
	if err != nil {
		t.Fatal(err)
	}
	r.origin = h
	return r
}

func TestAGuestIsFetchedFromItsHypervisorAndLeftAsTheEndWants(t *testing.T) {
	h := &host{path: small(t), concerns: []fixer.Concern{{Level: fixer.Warning, Code: "vsphere/snapshots", Text: "there are two"}}}
	r := from(t, filepath.Join(t.TempDir(), "small"), h, noTest)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fetch", "open", "release"}; !slices.Equal(h.said, want) {
		t.Errorf("it was told %q, want %q", h.said, want)
	}
	if e := h.ends[0]; !e.Finished || !e.Converted || e.Err != nil {
		t.Errorf("the end is told as %+v", e)
	}
	if fstab := fileOf(t, r.Disks[0].Path, "/etc/fstab"); !strings.Contains(fstab, "UUID=") {
		t.Errorf("fstab on the converted disk is %q", fstab)
	}
	if r.Plan.Concerns[0].Code != "vsphere/snapshots" {
		t.Errorf("the plan's concerns are %+v", r.Plan.Concerns)
	}
	text := Report{Migration: r.Migration}.Markdown()
	if !strings.Contains(text, "| 0 | https | 4711 | ") || !strings.Contains(text, "vddk: there is no library") {
		t.Errorf("the report does not tell how the disk came:\n%s", text)
	}
	xml, err := os.ReadFile(r.XMLPath())
	if err != nil || strings.Contains(string(xml), `state="down"`) {
		t.Errorf("the source is off, and the result has no network: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestAGuestThatWasGivenBackIsFetchedAnew: its disks may have changed, and the result
// must not come up in the same network.
func TestAGuestThatWasGivenBackIsFetchedAnew(t *testing.T) {
	h := &host{path: small(t)}
	folder := filepath.Join(t.TempDir(), "small")
	r := from(t, folder, h, nil) // its machine cannot be booted
	err := r.Go(t.Context())
	if err == nil || !r.Returned || h.ends[0].Finished || !h.ends[0].Converted || h.ends[0].Err == nil {
		t.Fatalf("Go = %v, returned %v, told of as %+v", err, r.Returned, h.ends)
	}
	xml, err := os.ReadFile(r.XMLPath())
	if err != nil || !strings.Contains(string(xml), `<link state="down"`) {
		t.Errorf("the result has its network, beside a source that runs: %v\n%s", err, xml)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := from(t, folder, h, nil)
	again.Stage("test").State = Skipped
	if err := again.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fetch", "open", "release", "fetch", "open", "release"}; !slices.Equal(h.said, want) || again.Returned {
		t.Errorf("it was told %q, want %q; returned %v", h.said, want, again.Returned)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestAGuestThatChangedWhileItsResultWasTestedIsNotProved: what was tested is not what the
// guest is.
func TestAGuestThatChangedWhileItsResultWasTestedIsNotProved(t *testing.T) {
	h := &host{path: small(t)}
	r := from(t, filepath.Join(t.TempDir(), "small"), h, nil)
	r.machines = runBy(func(context.Context, watch.Spec) (testers.Session, error) {
		h.changed = true
		return testers.Session{End: testers.Hung}, nil
	})
	if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, ErrSourceChanged) || r.Outcome != nil || !r.Returned {
		t.Errorf("Go = %v, outcome %+v, returned %v", err, r.Outcome, r.Returned)
	}
}

// TestAGuestOfAnInterruptedMigrationStaysAtRest: it is gone on with where it was.
func TestAGuestOfAnInterruptedMigrationStaysAtRest(t *testing.T) {
	h := &host{path: small(t)}
	folder := filepath.Join(t.TempDir(), "small")
	r := from(t, folder, h, noTest)
	ctx, stop := context.WithCancel(t.Context())
	r.before = func(_ *Migration, stage string) error {
		if stage == "convert" {
			stop()
			return context.Cause(ctx)
		}
		return nil
	}
	if err := r.Go(ctx); !errors.Is(err, context.Canceled) || r.Returned || !h.ends[0].Interrupted {
		t.Fatalf("Go = %v, returned %v, told of as %+v", err, r.Returned, h.ends)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := from(t, folder, h, noTest)
	if err := again.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fetch", "open", "release", "open", "release"}; !slices.Equal(h.said, want) {
		t.Errorf("it was told %q, want %q", h.said, want)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestAGuestMayHaveBeenGivenBackByWhoWasNotHeardOfSince: a process is killed while it
// gives the source back, or does not hear that it has.
func TestAGuestMayHaveBeenGivenBackByWhoWasNotHeardOfSince(t *testing.T) {
	h := &host{path: small(t), lost: errors.New("the line is dead")}
	folder := filepath.Join(t.TempDir(), "small")
	failing := errors.New("the target is on fire")
	r := from(t, folder, h, noTest)
	r.before = func(_ *Migration, stage string) error {
		if stage == "convert" {
			return failing
		}
		return nil
	}
	if err := r.Go(t.Context()); !errors.Is(err, failing) || r.Returned || !r.Leaving {
		t.Fatalf("Go = %v, returned %v, leaving %v", err, r.Returned, r.Leaving)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := from(t, folder, h, noTest)
	if err := again.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fetch", "open", "release", "fetch", "open", "release"}; !slices.Equal(h.said, want) || again.Leaving {
		t.Errorf("it was told %q, want %q; leaving %v", h.said, want, again.Leaving)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestAGuestIsLeftAgainThatWasNotLeftAsTheEndWants: all stages are done, and the run's
// end was not heard of.
func TestAGuestIsLeftAgainThatWasNotLeftAsTheEndWants(t *testing.T) {
	h := &host{path: small(t), lost: errors.New("the line is dead")}
	folder := filepath.Join(t.TempDir(), "small")
	r := from(t, folder, h, noTest)
	if err := r.Go(t.Context()); err == nil || !r.Finished() {
		t.Fatalf("Go = %v, finished %v", err, r.Finished())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again := from(t, folder, h, noTest)
	if err := again.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fetch", "open", "release", "release"}; !slices.Equal(h.said, want) || !h.ends[1].Finished || !h.ends[1].Converted {
		t.Errorf("it was told %q, want %q, and the end as %+v", h.said, want, h.ends)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, folder, h.path, noTest); !errors.Is(err, ErrRecord) {
		t.Errorf("a finished migration is begun again: %v", err)
	}
}

// TestAGuestIsLeftByTheNextRunIfOneWasKilledAtItsEnd: all stages are done, and the source
// was not yet begun to be left.
func TestAGuestIsLeftByTheNextRunIfOneWasKilledAtItsEnd(t *testing.T) {
	h := &host{path: small(t)}
	folder := filepath.Join(t.TempDir(), "small")
	var record []byte
	h.closing = func() { record, _ = os.ReadFile(filepath.Join(folder, recordFile)) } // what is empty cannot be gone on with
	r := from(t, folder, h, noTest)
	if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, recordFile), record, 0o600); err != nil {
		t.Fatal(err)
	}
	again := from(t, folder, h, noTest)
	if err := errors.Join(again.Go(t.Context()), again.Close()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fetch", "open", "release", "release"}; !slices.Equal(h.said, want) || !h.ends[1].Finished {
		t.Errorf("it was told %q, want %q, and the end as %+v", h.said, want, h.ends)
	}
}

// What cannot be found out about the source ends no migration, and is in the report once.
func TestASourceThatMayHaveChangedIsInTheReport(t *testing.T) {
	h := &host{path: small(t), doubt: fmt.Errorf("%w: there are no events", ErrUnsure)}
	r := from(t, filepath.Join(t.TempDir(), "small"), h, noTest)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.doubt = errors.New("the server does not answer")
	if err := errors.Join(r.outOfDate(t.Context()), r.outOfDate(t.Context())); err != nil {
		t.Error(err)
	}
	text := Report{Migration: r.Migration}.Markdown()
	for _, want := range []string{"changed: there are no events\n", "changed while its result was tested: the server does not answer\n"} {
		if strings.Count(text, "WARNING source/unsure: it is not known whether the source "+want) != 1 {
			t.Errorf("the report does not tell once %q:\n%s", want, text)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
