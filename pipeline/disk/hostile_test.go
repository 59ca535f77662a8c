package disk

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What QEMU takes for an extent and a reader of lines does not: the file of
// this host that it names would become the guest's disk.
func TestADescriptorThatOnlyQEMUUnderstandsIsRefused(t *testing.T) {
	for name, lines := range map[string]string{
		"over two lines":     "RW 1\nFLAT \"SECRET\" 0\n",
		"words run together": "RW 1FLAT \"SECRET\" 0\n",
	} {
		secret := filepath.Join(t.TempDir(), "secret")
		writeFile(t, secret, strings.Repeat("s", 512))
		path := filepath.Join(t.TempDir(), "evil.vmdk")
		writeFile(t, path, "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n"+strings.ReplaceAll(lines, "SECRET", secret))
		if c, err := ReadChain(t.Context(), path, VMDK, nil); !errors.Is(err, ErrNotADisk) {
			t.Errorf("%s: ReadChain = %+v, %v, want %v", name, c, err, ErrNotADisk)
		}
	}
}

// A sparse header without data makes QEMU read the descriptor inside as if it
// stood alone. What it names is held to its folder all the same.
func TestAnEmbeddedDescriptorCannotReachOut(t *testing.T) {
	needServers(t)
	raw := pattern(8)
	for name, outside := range map[string]bool{"web-flat.vmdk": false, "SECRET": true} {
		sectors := make([]byte, 8<<10)
		copy(sectors, "KDMV\x01\x00\x00\x00")
		binary.LittleEndian.PutUint64(sectors[28:], 1) // the descriptor's sector
		binary.LittleEndian.PutUint64(sectors[36:], 4) // and its length
		secret, dir := filepath.Join(t.TempDir(), "secret"), t.TempDir()
		writeFile(t, secret, string(raw))
		writeFile(t, filepath.Join(dir, "web-flat.vmdk"), string(raw))
		copy(sectors[512:], "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n"+
			`RW 8 FLAT "`+strings.ReplaceAll(name, "SECRET", secret)+`" 0`)
		path := filepath.Join(dir, "web.vmdk")
		writeFile(t, path, string(sectors))
		c, err := ReadChain(t.Context(), path, VMDK, nil)
		if outside != errors.Is(err, ErrChain) {
			t.Errorf("%s: ReadChain = %+v, %v", name, c, err)
		}
		if err == nil {
			differ(t, name, served(t, c), raw)
		}
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
	if err := os.Mkdir(filepath.Join(odd, `a "b"`), 0o700); err != nil {
		t.Fatal(err)
	}
	raw := pattern(300)
	writeFile(t, filepath.Join(odd, `a "b"`, "é:c,-flat.vmdk"), string(raw))
	differ(t, "a VMDK in an odd folder", served(t, readChain(t, described(t, filepath.Join(odd, `a "b"`), "x.vmdk", 1, nil, `RW 300 VMFS "é:c,-flat.vmdk"`))), raw)
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
