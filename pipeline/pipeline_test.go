package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/testers"
	"hyper2kvm/testers/watch"
)

func TestTheOrderIsSacred(t *testing.T) {
	want := []string{"fetch", "flatten", "inspect", "plan", "fix", "convert", "test"}
	if d := cmp.Diff(want, StageNames()); d != "" {
		t.Error(d)
	}
}

// small is a disk with just enough of a guest to be migrated: a file system
// with a system's name and an fstab of VMware's names.
func small(t *testing.T) string {
	t.Helper()
	needTools(t, "mke2fs", "sfdisk", "qemu-img", "qemu-nbd", "qemu-storage-daemon")
	raw := filepath.Join(t.TempDir(), "small.raw")
	if err := guesttest.Small(t.Context(), raw, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	return raw
}

func needTools(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("mounts disks as root: set NEED_TOOLS=1")
	}
	var why error
	if os.Geteuid() != 0 {
		why = errors.New("the direct engine needs root")
	}
	for _, p := range programs {
		_, err := proc.Look(p)
		why = errors.Join(why, err)
	}
	if why != nil {
		t.Fatal(why)
	}
}

// open begins or goes on with a migration of the disk with the direct engine,
// on a host without KVM, with machines that the test plays.
func open(t *testing.T, folder, source string, change func(*Options)) (*Run, error) {
	t.Helper()
	o := Options{Source: source, Shape: disk.Shape{Format: disk.QCOW2}, Engine: Direct}
	if change != nil {
		change(&o)
	}
	r, err := Open(Config{Folder: folder, Version: "test", Log: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		return nil, err
	}
	r.accel = func(context.Context) (accel.Choice, error) {
		return accel.Choice{Name: accel.TCG, Reason: "this is a test"}, nil
	}
	r.machines = runBy(func(context.Context, watch.Spec) (testers.Session, error) {
		return testers.Session{}, errors.New("nothing was to be booted")
	})
	return r, nil
}

func noTest(o *Options) { o.Skip = map[string]string{"test": "not part of this"} }

func TestAMigrationLeavesItsSourceAsItWas(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	before := digest(t, source)
	r := migrated(t, folder, source)
	if got := digest(t, source); got != before {
		t.Error("the source was written")
	}
	if r.Again == nil || len(r.Again.Changes) != 0 {
		t.Errorf("planning again after FIX: %+v", r.Again)
	}
	fstab := fileOf(t, r.Disks[0].Path, "/etc/fstab")
	if !strings.HasPrefix(fstab, "# made by the installer\nUUID=") || !strings.HasSuffix(fstab, "\t/\text4\tdefaults 0 1\n") {
		t.Errorf("fstab on the converted disk is %q", fstab)
	}
	for _, name := range []string{"small.xml", "small-disk0.qcow2", recordFile} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, workFolder)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("work files are left: %v", err)
	}
}

func TestUndoGivesBackTheSourcesFiles(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	migrated(t, folder, source)
	r, err := Reopen(Config{Folder: folder, Log: slog.New(slog.DiscardHandler)})
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
	if err := r.UndoAll(t.Context()); !errors.Is(err, ErrRecord) {
		t.Errorf("undo of what is undone: %v, want %v", err, ErrRecord)
	}
}

func migrated(t *testing.T, folder, source string) *Run {
	t.Helper()
	r, err := open(t, folder, source, noTest)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteReport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// A stage that fails is run again, alone with what comes after it, and the
// result is that of an undisturbed run.
func TestARunGoesOnWhereItFailed(t *testing.T) {
	source := small(t)
	for _, stage := range []string{"inspect", "plan", "fix", "convert"} {
		t.Run(stage, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "small")
			ctx, cancel := context.WithCancelCause(t.Context())
			reason := errors.New("operator left")
			r, err := open(t, folder, source, noTest)
			if err != nil {
				t.Fatal(err)
			}
			r.tell = func(e Event) {
				if e.Stage == stage && e.State == Running {
					cancel(reason)
				}
			}
			if err := r.Go(ctx); !errors.Is(err, reason) {
				t.Fatalf("Go = %v, want %v", err, reason)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			ran := []string{}
			if r, err = open(t, folder, source, noTest); err != nil {
				t.Fatal(err)
			}
			r.tell = func(e Event) {
				if e.State == Running && !slices.Contains(ran, e.Stage) {
					ran = append(ran, e.Stage)
				}
			}
			if err := r.Go(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			names := StageNames()
			if d := cmp.Diff(names[slices.Index(names, stage):6], ran); d != "" {
				t.Errorf("stages that ran again:\n%s", d)
			}
			if fstab := fileOf(t, r.Disks[0].Path, "/etc/fstab"); !strings.Contains(fstab, "UUID=") {
				t.Errorf("fstab is %q", fstab)
			}
		})
	}
}

// cutOff is a guest whose machine ends with its context, and that says no more than that.
type cutOff struct {
	guest.Guest
	cut func()
}

func (c cutOff) UnmountAll() error {
	c.cut()
	return errors.New("the connection is closed")
}

func TestAnInterruptedStageSaysThatItWas(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("operator left")
	r, err := open(t, filepath.Join(t.TempDir(), "small"), small(t), noTest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.engine = func(_ context.Context, name string, s *disk.Storage, c accel.Choice, log *slog.Logger) (guest.Guest, error) {
		g, err := openEngine(t.Context(), name, s, c, nil, log)
		return cutOff{g, func() { cancel(reason) }}, err
	}
	if err := r.Go(ctx); !errors.Is(err, reason) || !strings.HasPrefix(r.Stage("inspect").Reason, reason.Error()) {
		t.Errorf("Go = %v, and the record says %q, want %v", err, r.Stage("inspect").Reason, reason)
	}
}

// TestAnInterruptionIsSaidOnce: the stage's call and the guest's end fail for one reason.
func TestAnInterruptionIsSaidOnce(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("operator left")
	r, err := open(t, filepath.Join(t.TempDir(), "small"), small(t), noTest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.engine = func(ctx context.Context, name string, s *disk.Storage, c accel.Choice, log *slog.Logger) (guest.Guest, error) {
		g, err := openEngine(ctx, name, s, c, nil, log)
		cancel(reason)
		return g, err
	}
	if err := r.Go(ctx); err == nil || err.Error() != "inspect: operator left" {
		t.Errorf("Go = %v, want the reason", err)
	}
}

// childEnv tells the test binary to be the migration that is killed.
const childEnv = "HYPER2KVM_TEST_MIGRATE"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		os.Exit(child(spec))
	}
	os.Exit(m.Run())
}

// child migrates and stops still when it reaches a stage, to be killed there.
func child(spec string) int {
	var s struct{ Source, Folder, Stage string }
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return 2
	}
	r, err := Open(Config{Folder: s.Folder, Version: "test", Log: slog.New(slog.DiscardHandler), Tell: func(e Event) {
		if e.Stage == s.Stage && e.State == Running && (s.Stage != "convert" || e.Progress != nil) {
			standStill()
		}
		if s.Stage == copied && e.Progress != nil && e.Progress.Virtual == e.Progress.Total {
			standStill()
		}
	}}, Options{Source: s.Source, Shape: disk.Shape{Format: disk.QCOW2}, Engine: Direct, Skip: map[string]string{"test": "not part of this"}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if s.Stage == published {
		r.copier = stopping{r.copier}
	}
	if err := r.Go(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func standStill() {
	fmt.Println("here")
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGWINCH)
	<-never
}

// copied is the moment at which all of a disk is copied and nothing has its final name yet.
const copied = "copied"

// published is the moment at which a target has its final name and the record
// does not say so yet.
const published = "published"

type stopping struct{ transfer.Copier }

func (s stopping) Copy(ctx context.Context, jobs []transfer.Job, report func(transfer.Progress)) ([]transfer.Result, error) {
	results, err := s.Copier.Copy(ctx, jobs, report)
	if err == nil {
		standStill()
	}
	return results, err
}

func TestARunKilledAfterItsCopyGoesOn(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	killAt(t, published, source, folder)
	if _, err := os.Stat(filepath.Join(folder, "small-disk0.qcow2")); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, folder)
	r := migrated(t, folder, source)
	if fstab := fileOf(t, r.Disks[0].Path, "/etc/fstab"); !strings.Contains(fstab, "UUID=") {
		t.Errorf("fstab is %q", fstab)
	}
}

func TestAKilledRunLeavesItsSourceAndGoesOn(t *testing.T) {
	source := small(t)
	before := digest(t, source)
	for _, stage := range []string{"fetch", "flatten", "inspect", "plan", "fix", "convert", copied} {
		t.Run(stage, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "small")
			killAt(t, stage, source, folder)
			if got := digest(t, source); got != before {
				t.Error("the source was written")
			}
			if _, err := os.Stat(filepath.Join(folder, "small-disk0.qcow2")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("half a result has the final name: %v", err)
			}
			nothingLeft(t, folder)
			r := migrated(t, folder, source)
			if fstab := fileOf(t, r.Disks[0].Path, "/etc/fstab"); !strings.Contains(fstab, "UUID=") {
				t.Errorf("fstab is %q", fstab)
			}
			if got := digest(t, source); got != before {
				t.Error("the source was written")
			}
		})
	}
}

// killAt runs a migration in another process and kills it in a stage.
func killAt(t *testing.T, stage, source, folder string) {
	t.Helper()
	spec, err := json.Marshal(map[string]string{"Source": source, "Folder": folder, "Stage": stage})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	here := make(chan struct{})
	said := &announcer{here: here}
	attr := &os.ProcAttr{Env: append(os.Environ(), childEnv+"="+string(spec)), Files: []*os.File{nil, said.pipe(t), os.Stderr}}
	p, err := os.StartProcess(self, []string{self}, attr)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-here:
	case <-time.After(time.Minute):
		t.Errorf("%s was not reached: %s", stage, said.text())
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

// nothingLeft tells of what a killed run left mounted or running. The kernel
// ends the children a moment after their parent.
func nothingLeft(t *testing.T, folder string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := leftovers(t, folder)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left running or mounted: %q", left)
		}
		<-time.Tick(20 * time.Millisecond)
	}
}

func leftovers(t *testing.T, folder string) []string {
	t.Helper()
	var left []string
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		line, err := os.ReadFile(p)
		if err == nil && bytes.Contains(line, []byte(folder)) {
			left = append(left, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, folder) || strings.Contains(line, "/h2k-") {
			left = append(left, line)
		}
	}
	return left
}

func TestAMigrationIsOneProcessAlone(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, noTest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := open(t, folder, source, noTest); !errors.Is(err, ErrBusy) {
		t.Errorf("a second process may work on it: %v, want %v", err, ErrBusy)
	}
}

func TestASourceThatChangedIsNotGoneOnWith(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, noTest)
	if err != nil {
		t.Fatal(err)
	}
	r.copier = failing{}
	if err := r.Go(t.Context()); !errors.Is(err, errCopy) {
		t.Fatalf("Go = %v, want %v", err, errCopy)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(source, later, later); err != nil {
		t.Fatal(err)
	}
	if r, err = open(t, folder, source, noTest); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Go(t.Context()); !errors.Is(err, ErrSourceChanged) {
		t.Errorf("Go = %v, want %v", err, ErrSourceChanged)
	}
}

var errCopy = errors.New("the storage caught fire")

type failing struct{}

func (failing) Copy(context.Context, []transfer.Job, func(transfer.Progress)) ([]transfer.Result, error) {
	return nil, errCopy
}

func TestAGuestThatDoesNotComeUpIsNotProved(t *testing.T) {
	source, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, source, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	booted := 0
	r.machines = runBy(func(_ context.Context, s watch.Spec) (testers.Session, error) {
		booted++
		if s.Key == nil || len(s.Disks) != 1 {
			t.Errorf("booted with key %v and %d disks", s.Key, len(s.Disks))
		}
		return testers.Session{Probe: true, End: testers.Hung, LastWords: "Waiting for root"}, nil
	})
	if err := r.Go(t.Context()); !errors.Is(err, ErrNotProved) {
		t.Errorf("Go = %v, want %v", err, ErrNotProved)
	}
	if booted != 1 || r.Outcome == nil || r.Outcome.Proved || r.Outcome.LastWords != "Waiting for root" {
		t.Errorf("booted %d times, outcome %+v", booted, r.Outcome)
	}
}

func TestAnApprovedPlanMeetsAChangedGuest(t *testing.T) {
	source := small(t)
	first, err := open(t, filepath.Join(t.TempDir(), "plan"), source, func(o *Options) { o.Until = "plan" })
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := first.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(first.Plan.Changes) == 0 {
		t.Fatal("nothing is planned")
	}
	stale := *first.Plan
	stale.Changes = slices.Clone(stale.Changes)
	stale.Changes[0].Before.SHA256 = strings.Repeat("0", 64)
	for _, c := range []struct {
		name string
		want error
		plan func() Options
	}{
		{"the guest as it was planned for", nil, func() Options { return Options{Plan: first.Plan} }},
		{"a file that changed since", errConflict, func() Options { return Options{Plan: &stale} }},
	} {
		r, err := open(t, filepath.Join(t.TempDir(), "small"), source, func(o *Options) { noTest(o); o.Plan = c.plan().Plan })
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Go(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: Go = %v, want %v", c.name, err, c.want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Where the first engine could mount all that there is and found no system, a virtual
// machine would take half a minute to find none too.
func TestADiskWithoutASystemIsNotLookedAtTwice(t *testing.T) {
	needTools(t, "qemu-img", "qemu-nbd", "qemu-storage-daemon", "mke2fs", "blkid")
	for name, fill := range map[string]func(string){
		"empty": func(string) {},
		"data":  func(disk string) { guesttest.Make(t, disk, "ext4", 8<<20) },
	} {
		source := filepath.Join(t.TempDir(), name+".raw")
		if err := os.WriteFile(source, make([]byte, 8<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		fill(source)
		r, err := open(t, filepath.Join(t.TempDir(), name), source, func(o *Options) { o.Engine = Auto })
		if err != nil {
			t.Fatal(err)
		}
		r.packaged = true
		r.engine = func(ctx context.Context, name string, s *disk.Storage, c accel.Choice, log *slog.Logger) (guest.Guest, error) {
			if name != Direct {
				t.Errorf("%s: engine %s was asked", source, name)
			}
			return openEngine(ctx, Direct, s, c, nil, log)
		}
		if err := r.Go(t.Context()); !errors.Is(err, inspect.ErrNoOS) {
			t.Errorf("%s: Go = %v, want %v", name, err, inspect.ErrNoOS)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatTheFirstEngineDoesNotKnowIsLookedAtAgain(t *testing.T) {
	for kind, want := range map[string]bool{"ext4": false, "swap": false, "jfs": true, guest.LUKSContainer: true} {
		top := guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk0p1", Type: "xfs"}, {Device: "disk0p2", Type: kind}}}
		r := &Run{Migration: &Migration{Engine: Engine{Name: Direct}}, guest: tree.NewGuest(top, nil), packaged: true}
		if got := r.mayBeRead(inspect.ErrNoOS); got != want {
			t.Errorf("%s beside XFS: %v, want %v", kind, got, want)
		}
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}
