package pipeline

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/testers"
	"hyper2kvm/testers/watch"
)

var errConflict = guest.ErrConflict

// runBy has every machine that is tested run by a fake, which is always ready.
func runBy(boot func(context.Context, watch.Spec) (testers.Session, error)) map[string]hypervisor {
	fake := hypervisor{boot, func(context.Context, string) error { return nil }}
	return map[string]hypervisor{WithQEMU: fake, WithLibvirt: fake}
}

// fileOf reads a file of the guest on a disk.
func fileOf(t *testing.T, path, name string) (text string) {
	t.Helper()
	lookInto(t, path, func(g guest.Guest) {
		if err := g.Mount("disk0p1", "/"); err != nil {
			t.Fatal(err)
		}
		data, err := g.ReadFile(name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		text = string(data)
	})
	return text
}

// lookInto opens the guest on a disk, through an overlay.
func lookInto(t *testing.T, path string, look func(guest.Guest)) {
	t.Helper()
	format, err := disk.Sniff(path)
	if err != nil {
		t.Fatal(err)
	}
	source, err := disk.OpenSource(t.Context(), path, format)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	overlay := filepath.Join(t.TempDir(), "look.qcow2")
	if err := disk.CreateOverlay(t.Context(), overlay, source.Size); err != nil {
		t.Fatal(err)
	}
	storage, err := disk.OpenStorage(t.Context(), []disk.Layer{{Overlay: overlay, Backing: source.Export}})
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close(t.Context())
	g, err := openEngine(t.Context(), Direct, storage, accel.Choice{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	look(g)
}

// announcer notices that the child said where it is.
type announcer struct {
	mu   sync.Mutex
	said strings.Builder
	here chan struct{}
}

func (a *announcer) pipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	go func() {
		var once sync.Once
		buffer := make([]byte, 4096)
		for {
			n, err := r.Read(buffer)
			a.mu.Lock()
			a.said.Write(buffer[:n])
			reached := strings.Contains(a.said.String(), "here")
			a.mu.Unlock()
			if reached {
				once.Do(func() { close(a.here) })
			}
			if err == io.EOF || err != nil {
				return
			}
		}
	}()
	return w
}

func (a *announcer) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said.String()
}
