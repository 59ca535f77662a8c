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

// Whatever its kind, and whichever of its files it is: a disk that is cut short
// is refused, or what it lost was no data. QEMU would read zeros and not tell.
func TestADiskThatIsCutShortIsRefused(t *testing.T) {
	needServers(t)
	raw := make([]byte, 1<<20+77*sectorSize)
	rand.Read(raw)
	made := disks(t, raw)
	qcow2 := sources(t, raw)["qcow2"]
	for name, args := range map[string][]string{"qcow2": nil, "qcow2, compressed": {"-c"}, "qcow2, subclusters": {"-o", "extended_l2=on,cluster_size=128k"}} {
		made[name] = filepath.Join(t.TempDir(), "disk.qcow2")
		must(proc.Run(t.Context(), "qemu-img", append(append([]string{"convert", "-f", QCOW2, "-O", QCOW2}, args...), qcow2, made[name])...))(t)
	}
	for name, path := range made {
		c := readChain(t, path)
		if err := wholeChain(t, c); err != nil {
			t.Errorf("%s, whole: %v", name, err)
		}
		for _, data := range c.Files() {
			if data != path || len(c.Files()) == 1 {
				cutShort(t, name, path, data, raw)
			}
		}
	}
}

// cutShort cuts one of a disk's files ever shorter.
func cutShort(t *testing.T, name, path, data string, raw []byte) {
	t.Helper()
	size := must(os.Stat(data))(t).Size()
	for _, left := range []int64{size - 1, size - sectorSize, size - 100*sectorSize, size / 8 * 7, size / 2, 2048, 512} {
		if err := os.Truncate(data, left); err != nil {
			t.Fatal(err)
		}
		c, err := ReadChain(t.Context(), path, must(Sniff(path))(t), nil)
		if err == nil {
			err = wholeChain(t, c)
		}
		switch {
		case errors.Is(err, ErrTruncated):
		case err == nil && left >= size-sectorSize: // padding
			differ(t, name+", cut short", served(t, c), raw)
		case err != nil && left <= 2048: // not even a header
		default:
			t.Errorf("%s, %d of %d bytes of %s: %v, want %v", name, left, size, filepath.Base(data), err, ErrTruncated)
		}
	}
}

func wholeChain(t *testing.T, c *Chain) error {
	t.Helper()
	if c.Format == QCOW2 {
		return wholeQCOW2(t.Context(), c.Path)
	}
	for _, l := range c.links {
		if err := l.whole(t.Context()); err != nil {
			return err
		}
	}
	return nil
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
	if err := wholeQCOW2(t.Context(), path); err != nil {
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
