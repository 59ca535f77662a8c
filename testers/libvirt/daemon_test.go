package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers"
	"hyper2kvm/testers/libvirt/libvirttest"
)

// matrix skips a test whose like package e2e has in every run, by way of the
// whole pipeline.
func matrix(t *testing.T) {
	t.Helper()
	if os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("starts one of many machines: set NEED_VMS=matrix")
	}
	if !Available {
		t.Skip(ErrNotBuilt)
	}
}

// bootEmpty boots an emitted domain, emulated, whose two disks are empty.
func bootEmpty(ctx context.Context, p proof, uri, dir string) (_ testers.Session, err error) {
	var layers []disk.Layer
	for i := range p.spec.Disks {
		overlay := filepath.Join(dir, fmt.Sprintf("%d.qcow2", i))
		if err := disk.CreateOverlay(ctx, overlay, 1<<30); err != nil {
			return testers.Session{}, err
		}
		layers = append(layers, disk.Layer{Overlay: overlay})
	}
	storage, err := disk.OpenStorage(ctx, layers)
	if err != nil {
		return testers.Session{}, err
	}
	defer func() { err = errors.Join(err, storage.Close(context.WithoutCancel(ctx))) }()
	for i := range p.spec.Disks {
		e, err := storage.Export(ctx, i)
		if err != nil {
			return testers.Session{}, err
		}
		p.spec.Disks[i].Socket, p.spec.Disks[i].Export = e.Socket, e.Name
	}
	p.spec.Daemon, p.spec.Dir, p.spec.Memory = uri, filepath.Join(dir, "evidence"), 512<<20
	return Boot(ctx, p.spec)
}

// TestAnEmptyDiskFailsWithTheFirmwaresOwnWords takes minutes emulated: the
// firmware for Secure Boot is slow. It reads
// a text screen, and starts a machine with each firmware.
func TestAnEmptyDiskFailsWithTheFirmwaresOwnWords(t *testing.T) {
	matrix(t)
	uri := libvirttest.Daemon(t)
	for name, want := range map[string]string{"bios": "no-bootable-device on screen", "secure": "no-uefi-boot-option on serial"} {
		p := emitted(t, name, accel.TCG)
		p.spec.Progress = func(s string) { t.Logf("%s: %s", name, s) }
		s, err := bootEmpty(t.Context(), p, uri, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if s.End != testers.Failed || !strings.HasPrefix(s.Detail, want) || len(s.Screens) == 0 {
			t.Errorf("%s: end %q, %q, want %q; last words:\n%s", name, s.End, s.Detail, want, s.LastWords)
		}
		t.Logf("%s: by %s; differences: %q; events: %d", name, s.By, s.Differences, len(s.Events))
	}
}

// child tells the test binary to boot a domain of this daemon until it is killed.
const child = "HYPER2KVM_TEST_LIBVIRT"

// TestADomainEndsWithItsTester takes half a minute emulated.
func TestADomainEndsWithItsTester(t *testing.T) {
	if uri := os.Getenv(child); uri != "" {
		_, err := bootEmpty(t.Context(), emitted(t, "bios", accel.TCG), uri, t.TempDir())
		t.Fatal("it came to its end", err)
	}
	matrix(t)
	uri := libvirttest.Daemon(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tester, err := proc.Start(t.Context(), proc.Service{NoSocket: true, Command: proc.Command{Name: "bash",
		Args: []string{"-c", `exec "$0" -test.run=^TestADomainEndsWithItsTester$`, self}, Env: []string{child + "=" + uri}}})
	if err != nil {
		t.Fatal(err)
	}
	await(t, uri, 1)
	if err := tester.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, uri, 0)
}

// await waits until a daemon has so many domains.
func await(t *testing.T, uri string, want int) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for tick := time.Tick(200 * time.Millisecond); ; <-tick {
		names, err := libvirttest.Domains(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("libvirt has the domains %q, want %d", names, want)
		}
	}
}
