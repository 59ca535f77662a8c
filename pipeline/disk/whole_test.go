package disk

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

func TestADiskThatIsCutShortIsRefused(t *testing.T) {
	need(t, "qemu-img")
	raw := make([]byte, 4<<20)
	rand.Read(raw)
	for name, path := range sources(t, raw) {
		data := path
		if name == "monolithicFlat" {
			data = strings.TrimSuffix(path, ".vmdk") + "-flat.vmdk"
		}
		format := must(Sniff(path))(t)
		if err := whole(t.Context(), path, format); err != nil {
			t.Errorf("%s, whole: %v", name, err)
		}
		size := must(os.Stat(data))(t).Size()
		for _, left := range []int64{size / 2, size / 8 * 7} {
			if err := os.Truncate(data, left); err != nil {
				t.Fatal(err)
			}
			if err := whole(t.Context(), path, format); format != Raw && !errors.Is(err, ErrTruncated) {
				t.Errorf("%s, %d of %d bytes: %v, want %v", name, left, size, err, ErrTruncated)
			}
		}
	}
}

func TestARefcountThatIsWrongDoesNotConcernAReader(t *testing.T) {
	need(t, "qemu-img")
	path := filepath.Join(t.TempDir(), "leak.qcow2")
	must(proc.Run(t.Context(), "qemu-img", "create", "-q", "-f", QCOW2, path, "8M"))(t)
	f := must(os.OpenFile(path, os.O_WRONLY, 0))(t)
	// the refcounts, of 2 bytes, are the third cluster of a new file; the fourth is counted twice
	if _, err := f.WriteAt([]byte{0, 2}, 2*64<<10+2*3); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Run(t.Context(), "qemu-img", "check", "-f", QCOW2, path); err == nil {
		t.Fatal("the file has no leak")
	}
	if err := whole(t.Context(), path, QCOW2); err != nil {
		t.Error(err)
	}
}

func TestCommitFindsADiskThatIsNamedFromTheWorkingFolder(t *testing.T) {
	need(t, "qemu-img")
	t.Chdir(t.TempDir())
	if err := os.Mkdir("work", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "base.raw", strings.Repeat("x", 1<<20))
	overlay := filepath.Join("work", "overlay.qcow2")
	if err := CreateOverlay(t.Context(), overlay, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := Commit(t.Context(), overlay, "base.raw", Raw); err != nil {
		t.Error(err)
	}
}
