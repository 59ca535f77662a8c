package transfer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
)

// dirty is how many pages of a file wait in memory for the kernel to begin to write
// them.
func dirty(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seen unix.Cachestat_t
	err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &seen, 0)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("this kernel does not tell what waits to be written: Linux 6.5 does")
	}
	if err != nil {
		t.Fatal(err)
	}
	return seen.Dirty
}

// TestWhatIsFlushedIsOnItsWay sees that storage does not stand idle until the end of
// a copy: the kernel itself would wait for half a minute.
func TestWhatIsFlushedIsOnItsWay(t *testing.T) {
	needTools(t)
	for _, format := range []string{disk.Raw, disk.QCOW2} {
		dir := t.TempDir()
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil || s.Type == unix.TMPFS_MAGIC {
			t.Skipf("%s is in memory, and nothing is written from there (%v)", dir, err)
		}
		data := patterned(8 << 20)
		to := Target{Path: filepath.Join(dir, "disk"), Shape: disk.Shape{Format: format}, Size: int64(len(data))}
		if err := to.create(t.Context()); err != nil {
			t.Fatal(err)
		}
		w, err := to.open(t.Context(), to.work(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(t.Context(), data, 0); err != nil {
			t.Fatal(err)
		}
		if dirty(t, to.work()) == 0 {
			t.Fatalf("%s: nothing waits to be written", format)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); dirty(t, to.work()) > 0; <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s: %d pages still wait to be written", format, dirty(t, to.work()))
				break
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}
