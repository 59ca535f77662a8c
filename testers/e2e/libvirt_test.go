package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/libvirt"
	"hyper2kvm/testers/libvirt/libvirttest"
)

// needLibvirt skips where this program was built without libvirt, and a test
// whose machines QEMU runs in every run.
func needLibvirt(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("one of many machines: set NEED_VMS=matrix")
	}
	if !libvirt.Available {
		t.Skip(libvirt.ErrNotBuilt)
	}
}

// The sample guest is converted, its domain is defined as the README says, and
// libvirt is asked for a proof: beside the defined domain, of which nothing is
// touched, and with nothing left behind.
func TestLibvirtProvesTheDomainThatWasEmitted(t *testing.T) {
	needLibvirt(t)
	g := guestUnderTest(t)
	uri, folder := libvirttest.Daemon(t), filepath.Join(t.TempDir(), "web01")
	if _, err := run(t, folder, pipeline.Options{Source: g.VMX, Skip: map[string]string{"test": "left to libvirt"}}); err != nil {
		t.Fatal(err)
	}
	defineResult(t, uri, folder)
	r, err := pipeline.Reopen(pipeline.Config{Folder: folder, Version: "test", Log: testLog(t), Tell: func(e pipeline.Event) { t.Log(e.Text) }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = r.Retest(t.Context(), pipeline.WithLibvirt, uri)
	if err := errors.Join(err, r.WriteReport(context.WithoutCancel(t.Context()))); err != nil {
		if r.Outcome != nil {
			t.Logf("last words:\n%s", r.Outcome.LastWords)
		}
		t.Fatal(err)
	}
	answered(t, r, g)
	t.Logf("by %s; differences:\n%s", r.Outcome.By, strings.Join(r.Outcome.Differences, "\n"))
	if !strings.HasPrefix(r.Outcome.By, "libvirt ") {
		t.Errorf("proved by %q", r.Outcome.By)
	}
	for _, session := range []string{"probe", "clean"} {
		for _, name := range []string{"serial.log", "qmp.jsonl", "reports.jsonl", "lan.json", "session.json", "screen-*.png"} {
			if found, err := filepath.Glob(filepath.Join(folder, "evidence", session, name)); err != nil || len(found) == 0 {
				t.Errorf("evidence/%s/%s: %v, %v", session, name, found, err)
			}
		}
	}
	if names, err := libvirttest.Domains(t.Context(), uri); err != nil || !slices.Equal(names, []string{"web01"}) {
		t.Errorf("libvirt has the domains %q, %v", names, err)
	}
}

// defineResult defines the emitted domain until the test ends. A host on which
// libvirt finds no KVM refuses its type alone.
func defineResult(t *testing.T, uri, folder string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "web01.xml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "web01.xml")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), `type="kvm"`, `type="qemu"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Run(t.Context(), "virsh", "-q", "-c", uri, "define", "--validate", file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := proc.Run(context.WithoutCancel(t.Context()), "virsh", "-q", "-c", uri, "undefine", "web01"); err != nil {
			t.Error(err)
		}
	})
}

// What QEMU alone does not prove, libvirt does not either.
func TestLibvirtProvesNoGuestThatDoesNotBoot(t *testing.T) {
	needLibvirt(t)
	g, uri := guestUnderTest(t), libvirttest.Daemon(t)
	r, err := run(t, filepath.Join(t.TempDir(), "web01"), pipeline.Options{Source: g.VMX, Skip: asItIs(), With: pipeline.WithLibvirt, Connect: uri})
	if !errors.Is(err, pipeline.ErrNotProved) {
		t.Fatalf("an unfixed guest: %v, want %v", err, pipeline.ErrNotProved)
	}
	t.Logf("cause: %s\nlast words:\n%s", r.Outcome.Cause, r.Outcome.LastWords)
	if !strings.Contains(r.Outcome.LastWords, "(initramfs)") {
		t.Error("the last words are not those of the initrd's shell")
	}
}

// libvirt has keys of its own for what is typed on its domain's screen.
func TestLibvirtProvesAGuestThatAsksForItsPassphrase(t *testing.T) {
	needLibvirt(t)
	x := trial{guest: "vault01"}
	g, uri, folder := x.build(t), libvirttest.Daemon(t), filepath.Join(t.TempDir(), "vault01")
	r, err := runWith(t, folder, pipeline.Options{Source: g.VMX, With: pipeline.WithLibvirt, Connect: uri}, keysOf(g))
	if err != nil {
		if r.Outcome != nil {
			t.Logf("cause %s, last words:\n%s", r.Outcome.Cause, r.Outcome.LastWords)
		}
		t.Fatal(err)
	}
	if !r.Outcome.Proved || !strings.HasPrefix(r.Outcome.By, "libvirt ") {
		t.Errorf("outcome %+v", r.Outcome)
	}
	answeredOn(t, folder, "screen")
	unseen(t, folder, g)
}
