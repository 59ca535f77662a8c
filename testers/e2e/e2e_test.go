package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline"
	"hyper2kvm/testers"
	"hyper2kvm/testers/guests"
)

// guestUnderTest builds the sample guest or takes it from the cache.
func guestUnderTest(t *testing.T) guests.Guest {
	t.Helper()
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("builds and boots guests: set NEED_VMS=1")
	}
	recipe, err := guests.Named("web01")
	if err != nil {
		t.Fatal(err)
	}
	g, err := guests.Build(t.Context(), recipe, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// run migrates, or does as much of it as the options say.
func run(t *testing.T, folder string, o pipeline.Options) (*pipeline.Run, error) {
	t.Helper()
	return runWith(t, folder, o, nil)
}

// runWith has the keys of what is encrypted.
func runWith(t *testing.T, folder string, o pipeline.Options, keys *guest.Keyring) (*pipeline.Run, error) {
	t.Helper()
	return runAs(t, o, pipeline.Config{Folder: folder, Keys: keys})
}

// runFrom has a guest that comes from elsewhere.
func runFrom(t *testing.T, folder string, o pipeline.Options, from pipeline.Origin) (*pipeline.Run, error) {
	t.Helper()
	return runAs(t, o, pipeline.Config{Folder: folder, Origin: from})
}

func runAs(t *testing.T, o pipeline.Options, c pipeline.Config) (*pipeline.Run, error) {
	t.Helper()
	o.Shape.Format = "qcow2"
	if o.Engine == "" {
		o.Engine = pipeline.Auto
	}
	c.Version, c.Log = "test", testLog(t)
	c.Tell = func(e pipeline.Event) {
		if e.Progress == nil {
			t.Logf("%s %s %s", e.Stage, e.State, e.Text)
		}
	}
	r, err := pipeline.Open(c, o)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Go(t.Context())
	if err := errors.Join(r.WriteReport(context.WithoutCancel(t.Context())), r.Close()); err != nil {
		t.Error(err)
	}
	return r, err
}

func asItIs() map[string]string {
	reason := "the guest is tested as it is"
	return map[string]string{"plan": reason, "fix": reason, "convert": reason}
}

// The control: on hardware like VMware's the sample guest is healthy, so what
// happens to it on KVM is KVM's doing.
func TestTheSampleGuestIsHealthyOnVMwaresHardware(t *testing.T) {
	if os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("its control boot was part of its build: set NEED_VMS=matrix")
	}
	g := guestUnderTest(t)
	r, err := run(t, filepath.Join(t.TempDir(), "web01"), pipeline.Options{Source: g.VMX, Hardware: pipeline.OnVMware, Skip: asItIs()})
	if err != nil {
		t.Fatal(err)
	}
	answered(t, r, g)
}

func TestTheSampleGuestDoesNotBootOnKVMUnfixed(t *testing.T) {
	g := guestUnderTest(t)
	r, err := run(t, filepath.Join(t.TempDir(), "web01"), pipeline.Options{Source: g.VMX, Skip: asItIs()})
	if !errors.Is(err, pipeline.ErrNotProved) {
		t.Fatalf("an unfixed guest: %v, want %v", err, pipeline.ErrNotProved)
	}
	t.Logf("cause: %s\nlast words:\n%s", r.Outcome.Cause, r.Outcome.LastWords)
	if r.Outcome.LastWords == "" {
		t.Error("the report has no last words of its console")
	}
}

func TestTheMainJob(t *testing.T) {
	g := guestUnderTest(t)
	before := digest(t, g.VMDK)
	folder := filepath.Join(t.TempDir(), "web01")
	r, err := run(t, folder, pipeline.Options{Source: g.VMX})
	if err != nil {
		t.Fatal(err)
	}
	answered(t, r, g)
	if r.Again == nil || len(r.Again.Changes) > 0 {
		t.Errorf("planning again after FIX: %+v", r.Again)
	}
	for _, c := range r.Plan.Concerns {
		t.Errorf("concern: %+v", c)
	}
	for _, name := range []string{"web01.xml", "web01-disk0.qcow2", "web01-report.md", "web01-report.json", "web01-boot.png", "evidence/probe", "evidence/clean"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := digest(t, g.VMDK); after != before {
		t.Error("the source was written")
	}
}

// answered checks that the proof rests on the guest's own address, seen from
// outside, on both boots and without the probe.
func answered(t *testing.T, r *pipeline.Run, g guests.Guest) {
	t.Helper()
	if r.Outcome == nil || !r.Outcome.Proved || len(r.Outcome.Answers) != len(testers.All()) {
		t.Fatalf("outcome %+v", r.Outcome)
	}
	if len(r.Outcome.Unasked) > 0 {
		t.Errorf("the proof did not ask for %q", r.Outcome.Unasked)
	}
	for _, a := range r.Outcome.Answers {
		t.Logf("%-28s %s", a.Name, a.Evidence)
	}
	if len(r.Expect.NICs) != 1 || len(r.Expect.NICs[0].Static) != 1 || r.Expect.NICs[0].Static[0] != g.NICs[0].Address {
		t.Errorf("the proof asked for %+v, want %v", r.Expect.NICs, g.NICs[0].Address)
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
