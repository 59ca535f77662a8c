package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

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
	l := &layered{top, padded{base, 100}, []Range{{10, 5}, {15, 5}, {40, 60}}}
	for off, want := range map[int64]struct {
		from Reader
		n    int64
	}{0: {l.beneath, 10}, 9: {l.beneath, 1}, 10: {top, 5}, 14: {top, 1}, 15: {top, 5}, 20: {l.beneath, 20}, 40: {top, 60}, 99: {top, 1}} {
		if from, n := l.at(off); from != want.from || n != want.n {
			t.Errorf("at(%d) is the overlay: %v, for %d bytes; want %v, %d", off, from == Reader(top), n, want.from == Reader(top), want.n)
		}
	}
}

// Sources and targets that our own servers serve are copied in shared memory.
func TestCopiesGoThroughSharedMemory(t *testing.T) {
	s := source(t, patterned(4<<20))
	b := testBudget(t, unsaved)
	e, err := openExport(t.Context(), s.Export, patience{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	b.share(t.Context(), e)
	p, err := b.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if did, err := e.quick(func(d *vhost.Device) error { return d.Read(t.Context(), p, 0) }); !did || err != nil || !bytes.Equal(p, patterned(4 << 20)[:leastChunk]) {
		t.Errorf("it was not read: %v", err)
	}
	if other, err := openExport(t.Context(), s.Export, patience{}); err != nil {
		t.Error(err)
	} else if did, err := other.quick(func(*vhost.Device) error { return nil }); did || err != nil {
		t.Errorf("a way that was not asked for was taken: %v", err)
	} else if err := other.Read(t.Context(), p, 0); err != nil {
		t.Error(err)
	} else if err := other.Close(); err != nil {
		t.Error(err)
	}
}

// A disk that grows is an overlay over a smaller one, whose last chunk is short.
func TestAnOverlayMayBeLargerThanItsDisk(t *testing.T) {
	const size = 12<<20 + 5*512
	data := patterned(size)
	data[size-1] = 7
	s := source(t, data)
	dir := t.TempDir()
	overlay := filepath.Join(dir, "overlay.qcow2")
	const larger = 20 << 20
	if err := disk.CreateOverlay(t.Context(), overlay, larger); err != nil {
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
	want := append(data, make([]byte, larger-size)...)
	for _, at := range []int64{5 << 20, size + 512, 19 << 20} {
		if _, err := proc.Run(t.Context(), "qemu-io", "-f", "raw", "-c", fmt.Sprintf("write -P 9 %d 4k", at), from.URI()); err != nil {
			t.Fatal(err)
		}
		copy(want[at:], bytes.Repeat([]byte{9}, 4<<10))
	}
	job := jobOf(s, dir, disk.Shape{Format: disk.QCOW2})
	job.From, job.Beneath, job.To.Size = from, s.Export, larger
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, job.To.Path, disk.QCOW2), want) {
		t.Error("the copy is not what the overlay was")
	}
	path := job.To.Manifest()
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: s.Export, Source: true}, silent); err != nil || v.Wrong != 0 || v.Size != larger {
		t.Errorf("Verify of the source = %+v, %v", v, err)
	}
	if _, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: s.Export, Source: false}, silent); !errors.Is(err, ErrDiffers) {
		t.Errorf("the smaller source is what the target is: %v", err)
	}
	if _, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: source(t, want[:19<<20+4<<10]).Export, Source: false}, silent); !errors.Is(err, ErrDiffers) {
		t.Errorf("a target that was cut where zeroes begin is taken for whole: %v", err)
	}
	job.Beneath, job.To.Path = source(t, make([]byte, larger+512)).Export, filepath.Join(dir, "other.qcow2")
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); !errors.Is(err, ErrSource) {
		t.Errorf("an overlay is read over a disk that is larger: %v", err)
	}
	data[size-2] ^= 1
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: source(t, data[:size]).Export, Source: true}, silent); !errors.Is(err, ErrDiffers) || v.Wrong != 1 {
		t.Errorf("Verify of another source = %+v, %v", v, err)
	}
	data[size-2] ^= 1
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: path, From: source(t, append(data[:size], 1)).Export, Source: true}, silent); !errors.Is(err, ErrDiffers) {
		t.Errorf("Verify of a longer source = %+v, %v", v, err)
	}
}

// Disks that are read from their files have no server, and the target and the manifest
// are what they are of one that has.
func TestADiskIsCopiedFromItsFiles(t *testing.T) {
	data := patterned(9<<20 + 512)
	served := jobOf(source(t, data), t.TempDir(), disk.Shape{Format: disk.Raw})
	want, err := Parallel{}.Copy(t.Context(), []Job{served}, silent)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*disk.Source{
		"raw":        sourceIn(t, data, disk.Raw),
		"sparse":     sourceIn(t, data, disk.VMDK),
		"compressed": sourceIn(t, data, disk.VMDK, "-o", "subformat=streamOptimized"),
	} {
		if s.Socket != "" {
			t.Errorf("%s: it has a server", name)
		}
		job := jobOf(s, t.TempDir(), disk.Shape{Format: disk.Raw})
		got, err := Parallel{}.Copy(t.Context(), []Job{job}, silent)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got[0].Content != want[0].Content || !bytes.Equal(content(t, job.To.Path, disk.Raw), data) {
			t.Errorf("%s: the copy differs", name)
		}
		if got[0].Wire > int64(len(data))/2 {
			t.Errorf("%s: %d bytes of %d were read", name, got[0].Wire, len(data))
		}
	}
}

// What was inflated of an export, for whoever looked at the guest, is not inflated once
// more to be copied: what is spoilt here are the compressed grains.
func TestACopyTakesWhatWasInflatedBefore(t *testing.T) {
	data := patterned(6 << 20)
	s := sourceIn(t, data, disk.VMDK, "-o", "subformat=streamOptimized")
	dir := t.TempDir()
	var room unix.Statfs_t
	if err := unix.Statfs(dir, &room); err != nil || int64(room.Bavail)*room.Bsize < 8<<30 {
		t.Skipf("nothing is kept where there is less room than 8 GiB (%v)", err)
	}
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
	if _, err := proc.Run(t.Context(), "qemu-io", "-f", "raw", "-c", "read 0 6M", from.URI()); err != nil {
		t.Fatal(err)
	}
	job := jobOf(s, dir, disk.Shape{Format: disk.Raw})
	job.From, job.Beneath = from, storage.Beneath(0)
	spoil(t, s.Chain.Path)
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
		t.Fatal(err)
	}
	if got := content(t, job.To.Path, disk.Raw); !bytes.Equal(got, data) {
		t.Error("the copy is another")
	}
}

// spoil damages the first bytes of each compressed grain of a stream-optimized VMDK
// that QEMU made: they begin in sectors behind the header's.
func spoil(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const zlib, sector, marker = "\x78\x9c", 512, 12
	for at := 0; at+marker+len(zlib) < len(text); at += sector {
		if string(text[at+marker:][:len(zlib)]) == zlib {
			clear(text[at+marker:][:len(zlib)])
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
