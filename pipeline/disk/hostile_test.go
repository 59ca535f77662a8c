package disk

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const descriptor = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n"

// What QEMU takes for an extent and a reader of lines does not: the file of
// this host that it names would become the guest's disk.
func TestADescriptorThatOnlyQEMUUnderstandsCannotReachOut(t *testing.T) {
	need(t, "qemu-img")
	for name, lines := range map[string]string{
		"over two lines":     "RW 1\nFLAT \"SECRET\" 0\n",
		"words run together": "RW 1FLAT \"SECRET\" 0\n",
	} {
		secret := filepath.Join(t.TempDir(), "secret")
		writeFile(t, secret, strings.Repeat("s", 512))
		path := filepath.Join(t.TempDir(), "evil.vmdk")
		writeFile(t, path, descriptor+strings.ReplaceAll(lines, "SECRET", secret))
		s, err := OpenSource(t.Context(), path, VMDK)
		if err == nil {
			err = s.Close()
			t.Errorf("%s: served a file outside the folder (%v)", name, err)
		} else if !errors.Is(err, ErrChain) {
			t.Errorf("%s: OpenSource = %v, want %v", name, err, ErrChain)
		}
	}
}

// QEMU reads an embedded descriptor to its first zero byte, not to the length
// that the header claims.
func TestAnEmbeddedDescriptorIsReadAsQEMUDoes(t *testing.T) {
	sectors := make([]byte, 8<<10)
	copy(sectors, "KDMV\x01\x00\x00\x00")
	binary.LittleEndian.PutUint64(sectors[28:], 1) // the descriptor's sector
	binary.LittleEndian.PutUint64(sectors[36:], 1) // its claimed length
	copy(sectors[512:], descriptor+strings.Repeat("#\n", 300)+`RW 8 FLAT "/etc/shadow" 0`)
	path := filepath.Join(t.TempDir(), "evil.vmdk")
	writeFile(t, path, string(sectors))
	if err := checkDescriptor(path); !errors.Is(err, ErrChain) {
		t.Errorf("checkDescriptor = %v, want %v", err, ErrChain)
	}
}

func TestAPipeIsNotWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe.raw")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Sniff(path); !errors.Is(err, ErrNotADisk) {
		t.Errorf("Sniff of a pipe = %v, want %v", err, ErrNotADisk)
	}
}

func TestADisksFilesAreItsExtentsToo(t *testing.T) {
	need(t, "qemu-img")
	dir := t.TempDir()
	path := filepath.Join(dir, "web.vmdk")
	writeFile(t, path, descriptor+"RW 1 FLAT \"web-flat.vmdk\" 0\n")
	writeFile(t, filepath.Join(dir, "web-flat.vmdk"), strings.Repeat("x", 512))
	got, err := Files(t.Context(), path, VMDK)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{path, filepath.Join(dir, "web-flat.vmdk")}, got); d != "" {
		t.Error(d)
	}
}

func TestASocketInAnOddFolderIsStillReached(t *testing.T) {
	got := Export{Socket: "/tmp/a b&c#d%e+f/nbd.sock", Name: "disk"}.URI()
	if want := "nbd+unix:///disk?socket=%2Ftmp%2Fa%20b%26c%23d%25e%2Bf%2Fnbd.sock"; got != want {
		t.Errorf("URI = %q, want %q", got, want)
	}
}

func TestADiskInAnOddFolderIsServed(t *testing.T) {
	need(t, "qemu-img")
	need(t, "qemu-nbd")
	need(t, "qemu-storage-daemon")
	odd, err := os.MkdirTemp("", "h, &%") // short: a socket's name has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(odd); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("TMPDIR", odd)
	for _, name := range []string{"-dash.raw", "a,b.raw", "a:b%c.raw", "new\nline.raw", `quo"te.raw`} {
		path := filepath.Join(t.TempDir(), name)
		writeFile(t, path, strings.Repeat("x", 1000)) // not a multiple of a sector
		s, err := OpenSource(t.Context(), path, Raw)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		overlay := filepath.Join(filepath.Dir(path), "o"+name+".qcow2")
		if err := CreateOverlay(t.Context(), overlay, s.Size); err != nil {
			t.Fatal(err)
		}
		storage := must(OpenStorage(t.Context(), []Layer{{overlay, s.Export}}))(t)
		e := must(storage.Export(t.Context(), 0))(t)
		image, err := Describe(t.Context(), e.URI(), Raw)
		if err != nil || image.VirtualSize != 1024 {
			t.Errorf("%q: over NBD it is %+v, %v", name, image, err)
		}
		if err := errors.Join(storage.Close(t.Context()), s.Close()); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
