package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

func TestFormatIsNeverGuessedFromRawData(t *testing.T) {
	qcow2, vmdk, text := []byte("QFI\xfb..."), []byte("KDMV\x03"), []byte("# Disk DescriptorFile\nversion=1")
	for _, c := range []struct {
		name, path string
		mode       os.FileMode
		head       []byte
		want       string
		bad        bool
	}{
		{"sparse VMDK", "a.vmdk", 0, vmdk, VMDK, false},
		{"VMDK descriptor", "a.vmdk", 0, text, VMDK, false},
		{"old sparse VMDK", "a-delta.vmdk", 0, []byte("COWD\x01"), VMDK, false},
		{"new sparse VMDK", "a-sesparse.vmdk", 0, []byte("\xbe\xba\xfe\xca\x00\x00\x00\x00\x01"), VMDK, false},
		{"qcow2", "a.qcow2", 0, qcow2, QCOW2, false},
		{"qcow2 with no telling name", "a.disk", 0, qcow2, QCOW2, false},
		{"a raw disk on which the guest wrote a qcow2 header", "a.raw", 0, qcow2, Raw, false},
		{"a block device on which the guest wrote a VMDK header", "/dev/sdb", os.ModeDevice, vmdk, Raw, false},
		{"flat data under a name that tells nothing", "a.bin", 0, make([]byte, 512), "", true},
		{"qcow2 that calls itself VMDK", "a.vmdk", 0, qcow2, "", true},
		{"a raw disk under a name that others give to qcow2", "a.img", 0, make([]byte, 512), Raw, false},
		{"qcow2 under a name that may mean raw", "a.img", 0, qcow2, "", true},
		{"text", "a.vmdk", 0, []byte("hello"), "", true},
	} {
		got, err := format(c.path, c.mode, c.head)
		if got != c.want || c.bad != errors.Is(err, ErrNotADisk) {
			t.Errorf("%s: format(%q) = %q, %v, want %q", c.name, c.path, got, err, c.want)
		}
	}
}

// Operators take the large file for the disk.
func TestAPartOfADiskNamesTheFileToGive(t *testing.T) {
	raw := pattern(2048)
	guests := append([]byte("# Disk DescriptorFile\ncreateType=\"vmfs\"\nRW 8 VMFS \"other-flat.vmdk\"\n"), raw...)
	sparse := bytes.Clone(must(os.ReadFile(madeSparse(t, raw)))(t))
	for name, data := range map[string][]byte{
		"web-flat.vmdk": raw, "web-000001-delta.vmdk": cowd(8, nil), "web-000001-sesparse.vmdk": sesparse(8, nil), "web-s001.vmdk": append(bytes.Clone(sparse[:28]), append(make([]byte, 16), sparse[44:]...)...),
		"web-f001.vmdk": guests, "web-ctk.vmdk": []byte("\xa2\x72\x19\xf6"), "web_1-flat.vmdk": sparse,
	} {
		descriptor := partName.ReplaceAllString(name, "$2")
		for _, there := range []bool{true, false} {
			path := filepath.Join(t.TempDir(), name)
			writeFile(t, path, string(data))
			says := "it holds data of the disk that " + descriptor + " describes, which is missing; copy that file too and give it"
			if there {
				writeFile(t, filepath.Join(filepath.Dir(path), descriptor), "")
				says = "it holds data of the disk that " + descriptor + " describes; give that file"
			} else if name == "web_1-flat.vmdk" {
				continue // it may be a disk of that name
			}
			format, err := Sniff(path)
			if err == nil {
				_, err = ReadChain(t.Context(), path, format, nil)
			}
			if !errors.Is(err, ErrNotADisk) || !strings.HasSuffix(err.Error(), says) {
				t.Errorf("%s, descriptor %v: %v, want %q", name, there, err, says)
			}
		}
	}
}

func madeSparse(t *testing.T, raw []byte) string {
	t.Helper()
	need(t, "qemu-img")
	return sources(t, raw)["monolithicSparse"]
}

// The overlay service, on every kind of source: what is written through it is
// read back, lands in the overlay alone, and survives the daemon.
func TestStorageWritesOverlaysAndNeverTheirSources(t *testing.T) {
	for _, program := range []string{"qemu-img", "qemu-nbd", "qemu-storage-daemon"} {
		need(t, program)
	}
	raw := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	for name, source := range sources(t, raw) {
		t.Run(name, func(t *testing.T) {
			before := folderDigest(t, filepath.Dir(source))
			format, err := Sniff(source)
			if err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(t.TempDir(), "overlay.qcow2")
			src := must(OpenSource(t.Context(), source, format))(t)
			if err := CreateOverlay(t.Context(), overlay, src.Size); err != nil {
				t.Fatal(err)
			}
			written := []byte("written through the overlay")
			for _, first := range []bool{true, false} {
				s := must(OpenStorage(t.Context(), []Layer{{overlay, src.Export}}))(t)
				must(s.Export(t.Context(), 0))(t)
				check(t, s, raw, written, first)
				overNBD := must(s.Export(t.Context(), 0))(t)
				overview := must(proc.Run(t.Context(), "qemu-img", "info", "-f", "raw", "--output=json", overNBD.URI()))(t)
				if !strings.Contains(string(overview), fmt.Sprintf(`"virtual-size": %d`, len(raw))) {
					t.Errorf("over NBD the disk is %s", overview)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := src.Close(); err != nil {
				t.Error(err)
			}
			if after := folderDigest(t, filepath.Dir(source)); after != before {
				t.Error("the source was written")
			}
		})
	}
}

func check(t *testing.T, s *Storage, raw, written []byte, first bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal("FUSE in a mount namespace of its own: needs root")
		}
		t.Skip("FUSE in a mount namespace of its own: needs root")
	}
	path := must(s.Raw(t.Context(), 0))(t)
	f := must(os.OpenFile(path, os.O_RDWR, 0))(t)
	defer f.Close()
	got := make([]byte, len(raw))
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(raw)
	if !first {
		copy(want[70000:], written)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("first=%v: the overlay does not read as it should", first)
	}
	if _, err := f.WriteAt(written, 70000); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// sources are the same data as every kind of disk that is taken, each in a
// folder of its own.
func sources(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "disk.raw")
	writeFile(t, data, string(raw))
	made := map[string]string{"raw": data}
	for name, args := range map[string][]string{
		"monolithicSparse":     {"-O", "vmdk", "-o", "subformat=monolithicSparse"},
		"monolithicFlat":       {"-O", "vmdk", "-o", "subformat=monolithicFlat"},
		"twoGbMaxExtentSparse": {"-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"},
		"twoGbMaxExtentFlat":   {"-O", "vmdk", "-o", "subformat=twoGbMaxExtentFlat"},
		"streamOptimized":      {"-O", "vmdk", "-o", "subformat=streamOptimized"},
		"qcow2":                {"-O", "qcow2"},
	} {
		path := filepath.Join(t.TempDir(), "disk."+args[1])
		must(proc.Run(t.Context(), "qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), data, path)...))(t)
		made[name] = path
	}
	made["flat, behind something else"] = filepath.Join(t.TempDir(), "disk.vmdk")
	folder := filepath.Dir(made["flat, behind something else"])
	writeFile(t, filepath.Join(folder, "data.bin"), strings.Repeat("x", 8*sectorSize)+string(raw)+strings.Repeat("y", sectorSize))
	writeFile(t, made["flat, behind something else"], fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW %d FLAT \"data.bin\" 8\n", len(raw)/sectorSize))
	return made
}

func TestAQcow2WithABackingFileIsRefused(t *testing.T) {
	need(t, "qemu-img")
	path := filepath.Join(t.TempDir(), "evil.qcow2")
	must(proc.Run(t.Context(), "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", path, "1M"))(t)
	if _, err := OpenSource(t.Context(), path, QCOW2); !errors.Is(err, ErrChain) {
		t.Errorf("OpenSource = %v, want %v", err, ErrChain)
	}
}

func TestAnOverlayIsNeverMadeTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlay.qcow2")
	writeFile(t, path, "precious")
	if err := CreateOverlay(t.Context(), path, 1<<20); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateOverlay over a file: %v, want %v", err, fs.ErrExist)
	}
}

func need(t *testing.T, program string) {
	t.Helper()
	_, err := proc.Look(program)
	switch {
	case err != nil && os.Getenv("NEED_TOOLS") != "":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func folderDigest(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	for _, e := range must(os.ReadDir(dir))(t) {
		h.Write([]byte(e.Name()))
		h.Write(must(os.ReadFile(filepath.Join(dir, e.Name())))(t))
	}
	return string(h.Sum(nil))
}

// A daemon that was killed may leave clusters that nothing uses; what is lost is
// told apart from that.
func TestCheckTellsLeaksFromDamage(t *testing.T) {
	need(t, "qemu-img")
	for name, c := range map[string]struct {
		l1   byte // first byte of the first entry of the table of tables
		good bool
	}{"leaked clusters": {0, true}, "a table outside the file": {0x81, false}} {
		raw, path := filepath.Join(t.TempDir(), "a.raw"), filepath.Join(t.TempDir(), "a.qcow2")
		writeFile(t, raw, strings.Repeat("x", 1<<20))
		must(proc.Run(t.Context(), "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path))(t)
		data := must(os.ReadFile(path))(t)
		entry := data[binary.BigEndian.Uint64(data[40:]):][:8]
		copy(entry, []byte{c.l1, c.l1, 0, 0, 0, 0, 0, 0})
		writeFile(t, path, string(data))
		if err := Check(t.Context(), path); (err == nil) != c.good {
			t.Errorf("%s: Check = %v", name, err)
		}
	}
}
