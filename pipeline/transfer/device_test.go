package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/loop/looptest"
)

// device is a block device of size bytes that holds what fill is.
func device(t *testing.T, size int64, fill byte) string {
	t.Helper()
	if os.Getenv("NEED_TOOLS") == "" {
		t.Skip("makes block devices as root: set NEED_TOOLS=1")
	}
	file := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(file, bytes.Repeat([]byte{fill}, int(size)), 0o600); err != nil {
		t.Fatal(err)
	}
	return looptest.Device(t, file)
}

func begins(t *testing.T, path string, n int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A device that is half filled is no disk, holds nothing of what was on it at its
// ends, and is filled by the same copy alone.
func TestADeviceIsFilledItsStartLast(t *testing.T) {
	data := patterned(24 << 20)
	s := source(t, data)
	path := device(t, 30<<20, 9)
	job := Job{ID: "x", From: s.Export, To: Target{Path: path, Shape: disk.Shape{Format: disk.Raw}, Size: s.Size,
		Device: true, Beside: filepath.Join(t.TempDir(), "web01-disk0")}}
	if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); !errors.Is(err, ErrTarget) {
		t.Fatalf("a copy over what is there: %v, want %v", err, ErrTarget)
	}
	if !bytes.Equal(begins(t, path, 4096), bytes.Repeat([]byte{9}, 4096)) {
		t.Fatal("what was refused was written to")
	}
	job.To.Overwrite = true
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the operator left")
	slow := Parallel{Limits: []Limit{{Rate: 4 << 20}}}
	if _, err := slow.Copy(ctx, []Job{job}, func(p Progress) {
		if p.Wire > 2<<20 {
			cancel(reason)
		}
	}); !errors.Is(err, reason) {
		t.Fatalf("Copy = %v, want %v", err, reason)
	}
	if !isZero(begins(t, path, ends)) {
		t.Error("half a disk has a start")
	}
	job.To.Overwrite = false
	got, err := Parallel{}.Copy(t.Context(), []Job{job}, silent)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(begins(t, path, s.Size), data) || got[0].Allocated != s.Size {
		t.Errorf("%+v; the device differs", got)
	}
	if !isZero(begins(t, path, 30<<20)[29<<20:]) {
		t.Error("the device's end holds what it held")
	}
	d, err := disk.OpenSource(t.Context(), path, disk.Raw)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: job.To.Manifest(), From: d.Export, Device: true}, silent); err != nil {
		t.Errorf("Verify = %+v, %v", v, err)
	}
	if err := Discard(job.To, job.ID); err != nil {
		t.Fatal(err)
	}
	if !isZero(begins(t, path, ends)) || len(filesIn(t, filepath.Dir(job.To.Beside))) > 0 {
		t.Error("what was discarded is there")
	}
}

func TestADeviceThatCannotTakeADiskIsRefused(t *testing.T) {
	path := device(t, 4<<20, 0)
	held, err := os.OpenFile(path, os.O_RDONLY|os.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	to := Target{Path: path, Size: 4 << 20, Device: true}
	if err := to.Fits(); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a device that is used: %v, want %v", err, ErrTarget)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := to.Fits(); err != nil {
		t.Error(err)
	}
	to.Size++
	if err := to.Fits(); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "larger device") {
		t.Errorf("a device that is too small: %v, want %v", err, ErrTarget)
	}
	to.Path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(to.Path, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := to.Fits(); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "no block device") {
		t.Errorf("a file: %v, want %v", err, ErrTarget)
	}
}
