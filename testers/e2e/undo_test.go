package e2e

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/guest/libguestfs"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
)

// Undo on the converted disk gives back the source's files: content, mode,
// owner, attributes and times of everything that was touched.
func TestUndoRestoresEveryTouchedFileOfTheConvertedDisk(t *testing.T) {
	g := guestUnderTest(t)
	folder := filepath.Join(t.TempDir(), "web01")
	done, err := run(t, folder, pipeline.Options{Source: g.VMX, Skip: map[string]string{"test": "undone before it is booted"}})
	if err != nil {
		t.Fatal(err)
	}
	touched := map[string]bool{}
	for _, c := range done.Plan.Changes {
		touched[c.Path] = true
	}
	source := states(t, g.VMDK, touched)
	if d := cmp.Diff(source, states(t, done.Disks[0].Path, touched)); d == "" {
		t.Fatal("nothing was changed")
	}
	r, err := pipeline.Reopen(pipeline.Config{Folder: folder, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.UndoAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(source, states(t, done.Disks[0].Path, touched)); d != "" {
		t.Errorf("after undo (-source +disk):\n%s", d)
	}
}

// states are what stands at the names, on the disk's first partition.
func states(t *testing.T, path string, names map[string]bool) map[string]guest.State {
	t.Helper()
	g, closed := openDisk(t, path)
	defer closed()
	found := map[string]guest.State{}
	for name := range names {
		s, err := guest.StateOf(g, name)
		if err != nil {
			t.Fatal(err)
		}
		found[name] = s
	}
	return found
}

// openDisk mounts a disk's first partition through a throwaway overlay.
func openDisk(t *testing.T, path string) (g guest.Guest, closed func()) {
	t.Helper()
	var ends []func() error
	closed = func() {
		t.Helper()
		for _, end := range slices.Backward(ends) {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	}
	opened := func(err error, end func() error) {
		t.Helper()
		if err != nil {
			closed()
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	format, err := disk.Sniff(path)
	if err != nil {
		t.Fatal(err)
	}
	source, err := disk.OpenSource(t.Context(), path, format)
	opened(err, source.Close)
	overlay := filepath.Join(t.TempDir(), "look.qcow2")
	err = disk.CreateOverlay(t.Context(), overlay, source.Size)
	opened(err, func() error { return os.Remove(overlay) })
	storage, err := disk.OpenStorage(t.Context(), []disk.Layer{{Overlay: overlay, Backing: source.Export}})
	opened(err, func() error { return storage.Close(t.Context()) })
	raw, err := storage.Raw(t.Context(), 0)
	opened(err, func() error { return nil })
	g, err = direct.Open(t.Context(), []string{raw}, nil, testLog(t))
	opened(err, func() error { return g.Close() })
	if err := g.Mount("disk0p1", "/"); err != nil {
		closed()
		t.Fatal(err)
	}
	return g, closed
}

func TestBothEnginesReportTheSameFacts(t *testing.T) {
	g := guestUnderTest(t)
	if !libguestfs.Available {
		t.Skip("built without libguestfs (tag appliance)")
	}
	facts := map[string]*inspect.Facts{}
	for _, engine := range []string{pipeline.Direct, pipeline.Libguestfs} {
		r, err := run(t, filepath.Join(t.TempDir(), engine), pipeline.Options{Source: g.VMX, Engine: engine, Until: "inspect"})
		if err != nil {
			t.Fatal(err)
		}
		facts[engine] = r.Facts
	}
	if d := cmp.Diff(facts[pipeline.Direct], facts[pipeline.Libguestfs], cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		t.Errorf("facts (-direct +libguestfs):\n%s", d)
	}
}
