package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/testers"
	"hyper2kvm/testers/watch"
)

func withLibvirt(o *Options) { o.With, o.Connect = WithLibvirt, "qemu:///session" }

// What libvirt is to run is the file that the operator gets, byte for byte.
func TestTheEmittedDomainIsWhatIsTested(t *testing.T) {
	disk, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, disk, withLibvirt)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.before = func(m *Migration, stage string) error {
		if stage == "test" {
			m.Fixed.OS.Distro, m.Fixed.OS.Version = "rhel", "9.4" // which needs a whole CPU
		}
		return nil
	}
	var seen watch.Spec
	r.machines = runBy(func(_ context.Context, s watch.Spec) (testers.Session, error) {
		seen = s
		return testers.Session{By: "libvirt", End: testers.Refused, Detail: "no such machine type"}, nil
	})
	if err := r.Go(t.Context()); !errors.Is(err, ErrNotProved) || !strings.Contains(err.Error(), "no such machine type") {
		t.Errorf("Go = %v, want %v", err, ErrNotProved)
	}
	xml, err := os.ReadFile(r.XMLPath())
	if err != nil {
		t.Fatal(err)
	}
	if seen.Emitted != string(xml) || seen.Daemon != "qemu:///session" || !seen.Whole {
		t.Errorf("tested with %q, on a whole CPU %v:\n%s", seen.Daemon, seen.Whole, seen.Emitted)
	}
	if err := os.Remove(r.XMLPath()); err != nil {
		t.Fatal(err)
	}
	if err := r.Retest(t.Context(), WithLibvirt, ""); !errors.Is(err, ErrRecord) {
		t.Errorf("Retest without the XML = %v, want %v", err, ErrRecord)
	}
}

func TestARehearsalTestsTheDomainThatWouldBeEmitted(t *testing.T) {
	r, err := open(t, filepath.Join(t.TempDir(), "small"), small(t), func(o *Options) {
		withLibvirt(o)
		o.Skip = map[string]string{"convert": "this is a rehearsal"}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var emitted string
	r.machines = runBy(func(_ context.Context, s watch.Spec) (testers.Session, error) {
		emitted = s.Emitted
		return testers.Session{End: testers.Hung}, nil
	})
	if err := r.Go(t.Context()); !errors.Is(err, ErrNotProved) {
		t.Errorf("Go = %v, want %v", err, ErrNotProved)
	}
	if !strings.Contains(emitted, "<name>small</name>") || !strings.Contains(emitted, r.diskPath(0)) {
		t.Errorf("tested:\n%s", emitted)
	}
}

var errNoDaemon = errors.New("libvirt's daemon does not run")

func TestWhatCannotBeTestedIsNotBegun(t *testing.T) {
	r, err := open(t, filepath.Join(t.TempDir(), "small"), small(t), withLibvirt)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.machines[WithLibvirt] = hypervisor{ready: func(context.Context, string) error { return errNoDaemon }}
	if err := r.Go(t.Context()); !errors.Is(err, errNoDaemon) || r.Stage("fetch").State != Pending {
		t.Errorf("Go = %v, FETCH is %s; want %v before it", err, r.Stage("fetch").State, errNoDaemon)
	}
}

// The operator whose libvirt does not work may go on with QEMU.
func TestWhatRunsTheTestMayBeChosenAnew(t *testing.T) {
	disk, folder := small(t), filepath.Join(t.TempDir(), "small")
	r, err := open(t, folder, disk, withLibvirt)
	if err != nil {
		t.Fatal(err)
	}
	broken := func(context.Context, watch.Spec) (testers.Session, error) { return testers.Session{}, errNoDaemon }
	r.machines = runBy(broken)
	if err := errors.Join(r.Go(t.Context()), r.Close()); !errors.Is(err, errNoDaemon) {
		t.Fatalf("Go = %v, want %v", err, errNoDaemon)
	}
	if r, err = open(t, folder, disk, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil || r.Options.With != WithQEMU || r.Options.Connect != "" {
		t.Errorf("going on with %q %q, %v", r.Options.With, r.Options.Connect, err)
	}
}

func TestWhatCannotTestIsRefused(t *testing.T) {
	for why, change := range map[string]func(*Options){
		"an unknown hypervisor":      func(o *Options) { o.With = "xen" },
		"VMware's hardware, emitted": func(o *Options) { o.With, o.Hardware = WithLibvirt, OnVMware },
	} {
		if _, err := open(t, filepath.Join(t.TempDir(), "small"), small(t), change); !errors.Is(err, source.ErrBadInput) {
			t.Errorf("%s: %v, want %v", why, err, source.ErrBadInput)
		}
	}
}

func TestGuestsThatNeedAllOfACPU(t *testing.T) {
	for _, c := range []struct {
		distro, version string
		want            bool
	}{
		{"debian", "12", false}, {"debian", "", false}, {"ubuntu", "24.04", false}, {"centos", "7", false}, {"rhel", "8.10", false}, {"rhel", "9.4", true}, {"rocky", "10.0", true},
		{"rhel", "", true}, {"sles", "15.6", false}, {"sles", "16.0", true}, {"amzn", "2023", true}, {"arch", "", true}, {"", "", true},
	} {
		if got := needsWhole(inspect.OS{Distro: c.distro, Version: c.version}); got != c.want {
			t.Errorf("%s %s: %v", c.distro, c.version, got)
		}
	}
}
