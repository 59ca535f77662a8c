package transfer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/vhost"
	"hyper2kvm/pipeline/proc"
)

// A target that was made from an overlay is verified against the overlay's source
// too: where the overlay changed it, by what the manifest kept of it.
func TestASourceIsVerifiedBeneathWhatWasChanged(t *testing.T) {
	data := patterned(12 << 20)
	s := source(t, data)
	dir := t.TempDir()
	overlay := filepath.Join(dir, "overlay.qcow2")
	if err := disk.CreateOverlay(t.Context(), overlay, s.Size); err != nil {
		t.Fatal(err)
	}
	storage, err := disk.OpenStorage(t.Context(), []disk.Layer{{Overlay: overlay, Backing: s.Export}})
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close(t.Context())
	from, err := storage.Export(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	// One chunk with data, one without, and one on both sides of a boundary.
	for _, command := range []string{"write -P 9 100k 4k", "write -P 9 5M 64k", "write -P 9 8188k 8k"} {
		if _, err := proc.Run(t.Context(), "qemu-io", "-f", "raw", "-c", command, from.URI()); err != nil {
			t.Fatal(err)
		}
	}
	job := jobOf(s, dir, disk.Shape{Format: disk.QCOW2})
	job.From, job.Beneath = from, s.Export
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
		t.Fatal(err)
	}
	path := job.To.Manifest()
	m, err := openManifest(path, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if m.Changed != 4 {
		t.Errorf("%d chunks are told of, want 4", m.Changed)
	}
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: s.Export, Source: true}, silent); err != nil || v.Wrong != 0 {
		t.Errorf("Verify of the source = %+v, %v", v, err)
	}
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: s.Export, Source: false}, silent); !errors.Is(err, ErrDiffers) || v.Wrong != 4 {
		t.Errorf("the source is what the target is: %+v, %v", v, err)
	}
	data[9<<20+5] ^= 1
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: source(t, data).Export, Source: true}, silent); !errors.Is(err, ErrDiffers) || v.Wrong != 1 || v.First[0].Offset != 9<<20 {
		t.Errorf("Verify of another source = %+v, %v", v, err)
	}
	flip(t, path, headerSize+12*digestSize+20)
	if _, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: s.Export, Source: true}, silent); !errors.Is(err, ErrManifest) {
		t.Errorf("Verify with a damaged manifest: %v, want %v", err, ErrManifest)
	}
}

func TestAnOverlayIsReadWhereItHoldsSomething(t *testing.T) {
	top, base := &export{size: 100}, &export{size: 100}
	l := &layered{top, base, []Range{{10, 5}, {15, 5}, {40, 60}}}
	for off, want := range map[int64]struct {
		from *export
		n    int64
	}{0: {base, 10}, 9: {base, 1}, 10: {top, 5}, 14: {top, 1}, 15: {top, 5}, 20: {base, 20}, 40: {top, 60}, 99: {top, 1}} {
		if from, n := l.at(off); from != want.from || n != want.n {
			t.Errorf("at(%d) is the overlay: %v, for %d bytes; want %v, %d", off, from == top, n, want.from == top, want.n)
		}
	}
}

// Sources and targets that our own servers serve are copied in shared memory.
func TestCopiesGoThroughSharedMemory(t *testing.T) {
	s := source(t, patterned(4<<20))
	s.File = ""
	b := testBudget(t, unsaved)
	e, err := openExport(t.Context(), s.Export, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b.share(t.Context(), e)
	p, err := b.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !e.quick(func(d *vhost.Device) error { return d.Read(t.Context(), p, 0) }) || !bytes.Equal(p, patterned(4 << 20)[:leastChunk]) {
		t.Error("it was not read")
	}
	if other, err := openExport(t.Context(), s.Export, 0); err != nil || other.quick(func(*vhost.Device) error { return nil }) {
		t.Errorf("a way that was not asked for was taken: %v", err)
	} else if err := other.Read(t.Context(), p, 0); err != nil {
		t.Error(err)
	} else if err := other.Close(); err != nil {
		t.Error(err)
	}
}
