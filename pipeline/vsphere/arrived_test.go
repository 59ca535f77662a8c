package vsphere

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/transfer"
)

// verified has the run compare its disks, and what FIX did not change in them with the VM's.
func (l *lab) verified(t *testing.T, r *pipeline.Run) {
	t.Helper()
	list, err := r.Verify(t.Context(), true)
	if err != nil || len(list) != 2*len(l.vm.Disks) {
		t.Errorf("verified are %+v, %v", list, err)
	}
}

// arrived compares the result with what the disks hold: byte for byte, but for what FIX
// changed in the first.
func (l *lab) arrived(t *testing.T, r *pipeline.Run) {
	t.Helper()
	if len(r.Disks) != len(l.holds) {
		t.Fatalf("%d disks arrived, want %d", len(r.Disks), len(l.holds))
	}
	for i, file := range l.holds {
		if i > 0 && !bytes.Equal(read(t, r.Disks[i].Path), read(t, file)) {
			t.Errorf("disk %d is another", i)
		}
		want, err := disk.OpenSource(t.Context(), file, disk.Raw)
		if err != nil {
			t.Fatal(err)
		}
		to := transfer.Target{Path: r.Disks[i].Path, Shape: disk.Shape{Format: disk.Raw}, Size: want.Size}
		c := transfer.Check{Manifest: to.Manifest(), From: want.Export, Source: true}
		if _, err := (transfer.Parallel{}).Verify(t.Context(), c, func(transfer.Progress) {}); err != nil {
			t.Errorf("disk %d: %v", i, err)
		}
		if err := want.Close(); err != nil {
			t.Error(err)
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// carriers are the transports that read the disks.
func carriers(r *pipeline.Run) (names []string) {
	for _, c := range r.Carried {
		names = append(names, c.By)
	}
	return slices.Compact(names)
}

// TestAWriteThatChangeTrackingForgotIsFound, not by the copy, which believes it, but by who
// compares the result with the source.
func TestAWriteThatChangeTrackingForgotIsFound(t *testing.T) {
	l := newLab(t, nil)
	l.by = []string{"https"}
	l.ForgottenWrite(t, l.vm.Ref, l.vm.Disks[1].Key, 4<<20, slices.Repeat([]byte{7}, 1<<20))
	r := l.run(t)
	if err := r.Go(t.Context()); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(read(t, r.Disks[1].Path), []byte{7, 7, 7, 7}) {
		t.Fatal("the write is in the copy: this shows nothing")
	}
	if _, err := r.Verify(t.Context(), true); !errors.Is(err, transfer.ErrDiffers) {
		t.Errorf("Verify = %v, want %v", err, transfer.ErrDiffers)
	}
}
