package transfer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
)

// A source that cannot be read any more ends the copy with its reason, and what
// was copied is not copied again when it can.
func TestASourceThatFailsIsGoneOnWith(t *testing.T) {
	if _, err := proc.Look("nbdkit"); err != nil {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	needTools(t)
	const size = 96 << 20
	dir := t.TempDir()
	socket, broken := filepath.Join(dir, "s"), filepath.Join(dir, "broken")
	server, err := proc.Start(t.Context(), proc.Service{Socket: socket, Command: proc.Command{Name: "nbdkit", Args: []string{
		"--foreground", "--unix", socket, "--filter=error", "pattern", fmt.Sprint(size), "error-pread=EIO", "error-pread-rate=1", "error-pread-file=" + broken}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	from := disk.Export{Socket: socket}
	job := Job{ID: "x", From: from, To: Target{Path: filepath.Join(dir, "out.qcow2"), Shape: disk.Shape{Format: disk.QCOW2}, Size: size}}
	slow, read := Parallel{Limits: []Limit{{Rate: 40 << 20}}}, int64(0)
	_, err = slow.Copy(t.Context(), []Job{job}, func(p Progress) {
		if read = p.Wire; read > 20<<20 {
			if err := os.WriteFile(broken, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, ErrSource) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("Copy of a disk that fails: %v, want %v", err, syscall.EIO)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	got, err := Parallel{}.Copy(t.Context(), []Job{job}, silent)
	if err != nil {
		t.Fatal(err)
	}
	if again := read + got[0].Wire - size; again > 0 && again > inFlight {
		t.Errorf("%d bytes were read again", again)
	}
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: job.To.Manifest(), From: from, Source: true}, silent); err != nil {
		t.Errorf("the copy is not what the source is: %+v, %v", v, err)
	}
	verified(t, job)
}
