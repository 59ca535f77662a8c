package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/durable"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/testers"
	"hyper2kvm/testers/watch"
)

// begun is a migration that was opened and did nothing yet; it needs no tools.
func begun(t *testing.T, folder string, o Options) (*Run, error) {
	t.Helper()
	return Open(Config{Folder: folder, Version: "test", Log: slog.New(slog.DiscardHandler)}, o)
}

// The results' names are the migration's own. A folder that holds anything else
// is left alone: it may be the source's.
func TestAFolderWithOtherFilesIsNotUsed(t *testing.T) {
	folder := t.TempDir()
	theirs := filepath.Join(folder, "web01.vmdk")
	if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := begun(t, folder, Options{Source: theirs}); !errors.Is(err, ErrRecord) {
		t.Errorf("Open = %v, want %v", err, ErrRecord)
	}
	if names := names(t, folder); len(names) != 1 {
		t.Errorf("Open left %q", names)
	}
}

func names(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A run that is gone on with does what it was begun for. A plan that was
// approved, or a stage that was to be skipped, cannot change on the way.
func TestOtherOptionsDoNotGoOn(t *testing.T) {
	plan := func(path string) *fixers.Plan {
		return &fixers.Plan{Changes: []guest.Change{{Path: path}}}
	}
	base := Options{Source: "/a.raw", Shape: disk.Shape{Format: disk.QCOW2}, Engine: Auto}
	with := func(change func(*Options)) Options {
		o := base
		change(&o)
		return o
	}
	rehearsal := with(func(o *Options) { o.Skip = map[string]string{"convert": "rehearsal"} })
	for name, c := range map[string]struct {
		first, then Options
		want        error
	}{
		"the same":                     {base, base, nil},
		"no skips, written otherwise":  {base, with(func(o *Options) { o.Skip = map[string]string{} }), nil},
		"a migration of a rehearsal":   {rehearsal, base, ErrRecord},
		"another approved plan":        {with(func(o *Options) { o.Plan = plan("/a") }), with(func(o *Options) { o.Plan = plan("/b") }), ErrRecord},
		"an approved plan, then none":  {with(func(o *Options) { o.Plan = plan("/a") }), base, ErrRecord},
		"other hardware":               {base, with(func(o *Options) { o.Hardware = OnVMware }), ErrRecord},
		"another format":               {base, with(func(o *Options) { o.Shape.Format = disk.Raw }), ErrRecord},
		"another source":               {base, with(func(o *Options) { o.Source = "/b.raw" }), ErrRecord},
		"another engine, none was yet": {base, with(func(o *Options) { o.Engine = Direct }), nil},
	} {
		folder := filepath.Join(t.TempDir(), "m")
		r, err := begun(t, folder, c.first)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r, err = begun(t, folder, c.then)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: Open = %v, want %v", name, err, c.want)
		}
		if err != nil {
			continue
		}
		if r.Options.Engine != c.then.Engine {
			t.Errorf("%s: goes on with engine %q, want %q", name, r.Options.Engine, c.then.Engine)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOptionsThatMeanNothingAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"a stage that is none to stop at": {Until: "palns"},
		"a stage that is none to skip":    {Skip: map[string]string{"tset": "x"}},
		"a file that is no plan":          {Plan: &fixers.Plan{}},
		"an engine that is none":          {Engine: "nbdkit"},
	} {
		if r, err := begun(t, filepath.Join(t.TempDir(), "m"), o); err == nil {
			t.Errorf("%s: was begun", name)
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestADamagedRecordIsSaidToBe(t *testing.T) {
	for _, text := range []string{"{", `{"version":1}`, `{"version":1,"stages":[{"name":"fetch"}]}`, `{"version":99}`} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, recordFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := begun(t, folder, Options{}); !errors.Is(err, ErrRecord) {
			t.Errorf("Open of %s = %v, want %v", text, err, ErrRecord)
		}
	}
}

// Undo and test write nothing into a folder that is no migration's.
func TestReopenLeavesOtherFoldersAlone(t *testing.T) {
	folder := t.TempDir()
	if _, err := Reopen(Config{Folder: folder}); !errors.Is(err, ErrRecord) {
		t.Errorf("Reopen = %v, want %v", err, ErrRecord)
	}
	if names := names(t, folder); len(names) > 0 {
		t.Errorf("Reopen left %q", names)
	}
}

// What an interrupted CONVERT clears away is what it made itself: a file that
// was in its way, and that the operator was told of, stays.
func TestAnotherFileUnderATargetsNameStays(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	theirs := filepath.Join(folder, "small-disk0.qcow2")
	for range 3 {
		r, err := open(t, folder, source, noTest)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Go(t.Context()); !errors.Is(err, transfer.ErrTarget) {
			t.Errorf("Go = %v, want %v", err, transfer.ErrTarget)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(theirs); err != nil || string(text) != "theirs" {
			t.Fatalf("their file is %q, %v", text, err)
		}
	}
}

// A migration that is moved, or gone on with from another folder, finds its
// disks: they are beside its record.
func TestAMigrationIsUndoneWhereverItsFolderIs(t *testing.T) {
	source, base := small(t), t.TempDir()
	t.Chdir(base)
	migrated(t, "small", source)
	if err := os.Rename("small", "moved: here"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("elsewhere", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir("elsewhere")
	r, err := Reopen(Config{Folder: "../moved: here", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.UndoAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := fileOf(t, r.Disks[0].Path, "/etc/fstab"), fileOf(t, source, "/etc/fstab"); got != want {
		t.Errorf("fstab is %q, want %q", got, want)
	}
}

// TEST needs the result alone: the source may be gone by then.
func TestTheProofOfAConvertedGuestNeedsNoSource(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, nil)
	if err != nil {
		t.Fatal(err)
	}
	hung := func(context.Context, watch.Spec) (testers.Session, error) {
		return testers.Session{Probe: true, End: testers.Hung}, nil
	}
	r.machines = runBy(hung)
	if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, ErrNotProved) {
		t.Fatalf("Go = %v, want %v", err, ErrNotProved)
	}
	if err := os.Remove(source); err != nil {
		t.Fatal(err)
	}
	if r, err = open(t, folder, source, nil); err != nil {
		t.Fatal(err)
	}
	r.machines = runBy(hung)
	if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, ErrNotProved) {
		t.Errorf("Go without the source = %v, want %v", err, ErrNotProved)
	}
}

// An undo that wrote one disk of two is ended by undo alone.
func TestAHalfDoneUndoIsNotThrownAway(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	migrated(t, folder, source)
	r, err := Reopen(Config{Folder: folder, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.undoInOverlays(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := durable.Write(r.work(undoReady), nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Retest(t.Context(), WithQEMU, ""); !errors.Is(err, ErrRecord) {
		t.Errorf("Retest = %v, want %v", err, ErrRecord)
	}
	if err := r.UndoAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fileOf(t, r.Disks[0].Path, "/etc/fstab"); !strings.Contains(got, "/dev/sda1") {
		t.Errorf("fstab is %q", got)
	}
	if text := (Report{Migration: r.Migration}).verdict(); !strings.Contains(text, "Undone") {
		t.Errorf("verdict = %q", text)
	}
}

// What is copied from a source that is being written is no disk that ever was.
func TestASourceThatIsWrittenDuringTheCopyIsNoticed(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, noTest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	written := false
	r.tell = func(e Event) {
		if e.Stage == "convert" && e.Progress != nil && !written {
			written = true
			if err := touch(source); err != nil {
				t.Error(err)
			}
		}
	}
	if err := r.Go(t.Context()); !errors.Is(err, ErrSourceChanged) {
		t.Errorf("Go = %v, want %v", err, ErrSourceChanged)
	}
	if r.Finished() || len(r.Disks) > 0 {
		t.Errorf("finished %v with disks %+v", r.Finished(), r.Disks)
	}
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{1}, 31<<20)
	return errors.Join(err, f.Close())
}

func TestARehearsalLeavesItsReportAlone(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	rehearsal := func(o *Options) { o.Skip = map[string]string{"convert": "rehearsal", "test": "not part of this"} }
	for range 2 {
		r, err := open(t, folder, source, rehearsal)
		if err == nil {
			err = errors.Join(r.Go(t.Context()), r.WriteReport(t.Context()), r.Close())
		}
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
	}
	if got := strings.Join(names(t, folder), " "); got != "lock migration.json small-report.json small-report.md" {
		t.Errorf("left: %s", got)
	}
}

// Two disks are two targets of one result: made, undone and gone on with together.
func TestAMachineWithTwoDisksIsMigratedAndUndone(t *testing.T) {
	raw, dir := small(t), t.TempDir()
	for name, from := range map[string]string{"system.vmdk": raw, "data.vmdk": emptyDisk(t)} {
		if _, err := proc.Run(t.Context(), "qemu-img", "convert", "-f", "raw", "-O", "vmdk", from, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	vmx := filepath.Join(dir, "two.vmx")
	if err := os.WriteFile(vmx, []byte("scsi0:0.fileName = \"system.vmdk\"\nscsi0:1.fileName = \"data.vmdk\"\nmemSize = \"512\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "two")
	killAt(t, published, vmx, folder)
	nothingLeft(t, folder)
	if got := strings.Join(names(t, folder), " "); got != "lock migration.json two-disk0.manifest two-disk0.qcow2 two-disk1.manifest two-disk1.qcow2 work" {
		t.Errorf("killed after the copy: %s", got)
	}
	if _, err := Reopen(Config{Folder: folder, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrRecord) {
		t.Errorf("half a conversion can be undone: %v", err)
	}
	r := migrated(t, folder, vmx)
	if len(r.Disks) != 2 || r.Disks[1].Size != 8<<20 || len(r.Domain.Disks) != 2 {
		t.Errorf("disks %+v of %+v", r.Disks, r.Domain)
	}
	r, err := Reopen(Config{Folder: folder, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.UndoAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := fileOf(t, r.Disks[0].Path, "/etc/fstab"), fileOf(t, raw, "/etc/fstab"); got != want {
		t.Errorf("fstab is %q, want %q", got, want)
	}
	if left, err := filepath.Glob(filepath.Join(folder, "*.manifest")); err != nil || len(left) > 0 {
		t.Errorf("manifests of disks that are no more: %q, %v", left, err)
	}
}

func emptyDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "empty.raw")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 8<<20)); err != nil {
		t.Fatal(err)
	}
	return path
}
