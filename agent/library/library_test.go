package library

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/upload"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// shared is a shared library of nothing but a name: an ELF file of which the sections
// that name it are all that there is. It proves nothing of VDDK, which nobody may ship:
// neither that its library loads, nor what else VMware's archive holds.
func shared(soname string, machine elf.Machine) []byte {
	names := "\x00" + soname + "\x00"
	sections := "\x00.dynstr\x00.dynamic\x00.shstrtab\x00"
	const head, section = 64, 64
	text := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	u16 := func(v uint16) { text = append(text, byte(v), byte(v>>8)) }
	u32 := func(v uint32) { u16(uint16(v)); u16(uint16(v >> 16)) }
	u64 := func(v uint64) { u32(uint32(v)); u32(uint32(v >> 32)) }
	atNames := uint64(head)
	atDynamic := (atNames + uint64(len(names)) + 7) &^ 7
	atSections := atDynamic + 32
	table := (atSections + uint64(len(sections)) + 7) &^ 7
	u16(uint16(elf.ET_DYN))
	u16(uint16(machine))
	u32(1)
	u64(0)
	u64(0)
	u64(table)
	u32(0)
	for _, v := range []uint16{head, 0, 0, section, 4, 3} {
		u16(v)
	}
	pad := func(to uint64) { text = append(text, make([]byte, to-uint64(len(text)))...) }
	text = append(text, names...)
	pad(atDynamic)
	u64(uint64(elf.DT_SONAME))
	u64(1)
	u64(0)
	u64(0)
	text = append(text, sections...)
	pad(table + section)
	header := func(name, kind uint32, at, size uint64, link uint32, each uint64) {
		u32(name)
		u32(kind)
		u64(0)
		u64(0)
		u64(at)
		u64(size)
		u32(link)
		u32(0)
		u64(1)
		u64(each)
	}
	header(1, uint32(elf.SHT_STRTAB), atNames, uint64(len(names)), 0, 0)
	header(9, uint32(elf.SHT_DYNAMIC), atDynamic, 32, 1, 16)
	header(18, uint32(elf.SHT_STRTAB), atSections, uint64(len(sections)), 0, 0)
	return text
}

// vddk is an archive like VMware's, with some more entries.
func vddk(t *testing.T, version string, library []byte, more ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	out := tar.NewWriter(packed)
	major, _, _ := strings.Cut(version, ".")
	file := lib64 + "/libvixDiskLib.so." + version
	for _, h := range append([]tar.Header{
		{Typeflag: tar.TypeDir, Name: distrib + "/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: distrib + "/bin64/vmware-vdiskmanager", Mode: 0o4755, Size: 3},
		{Typeflag: tar.TypeSymlink, Name: lib64 + "/libvixDiskLib.so", Linkname: "libvixDiskLib.so." + major},
		{Typeflag: tar.TypeSymlink, Name: lib64 + "/libvixDiskLib.so." + major, Linkname: "libvixDiskLib.so." + version},
		{Typeflag: tar.TypeReg, Name: file, Mode: 0o755, Size: int64(len(library))},
	}, more...) {
		if err := out.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		content := make([]byte, h.Size)
		if h.Name == file {
			content = library
		}
		if h.Typeflag == tar.TypeReg && h.Size > 0 {
			if _, err := out.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(out.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newShelf(t *testing.T) *Shelf {
	t.Helper()
	s, err := Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put uploads a library as a whole.
func (s *Shelf) uploaded(t *testing.T, name string, content []byte) (v model.Library, err error) {
	t.Helper()
	r, err := upload.New(t.TempDir(), s.Where, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	_, err = r.Take(context.Background(), name, upload.Part{Length: int64(len(content)), Size: int64(len(content)), SHA256: sum[:]}, bytes.NewReader(content), s.Accept(name, "marta", &v))
	return v, err
}

// there are the files below the shelf's folder.
func (s *Shelf) there(t *testing.T) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(s.folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, s.folder+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestAVDDKIsUnpackedAndReplaced(t *testing.T) {
	s := newShelf(t)
	v, err := s.uploaded(t, "vddk", vddk(t, "7.0.3", shared("libvixDiskLib.so.7", elf.EM_X86_64)))
	if err != nil || v.Version != "7.0.3" || v.By != "marta" || strings.Join(v.Holds, " ") != "libvixDiskLib.so.7.0.3 soname libvixDiskLib.so.7" {
		t.Fatalf("%+v, %v", v, err)
	}
	libdir, err := s.VDDK()
	if err != nil || libdir != filepath.Join(s.folder, "vddk", distrib) {
		t.Errorf("it is in %s, %v", libdir, err)
	}
	if info, err := os.Stat(filepath.Join(libdir, "lib64", "libvixDiskLib.so")); err != nil || info.Mode() != 0o755 {
		t.Errorf("through its links: %v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Join(libdir, "bin64", "vmware-vdiskmanager")); err != nil || info.Mode()&fs.ModeSetuid != 0 {
		t.Errorf("a program with another's rights: %v, %v", info, err)
	}
	before := s.there(t)
	if _, err := s.uploaded(t, "vddk", vddk(t, "8.0.2", []byte("no library"))); !errors.Is(err, upload.ErrRefused) || s.there(t) != before {
		t.Errorf("what is refused: %v; there are %s", err, s.there(t))
	}
	good := vddk(t, "8.0.2.1", shared("libvixDiskLib.so.8", elf.EM_X86_64))
	for range 2 { // the second time it is the same
		if v, err = s.uploaded(t, "vddk", good); err != nil || v.Version != "8.0.2.1" {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if got := s.there(t); strings.Contains(got, "7.0.3") || !strings.Contains(got, "libvixDiskLib.so.8.0.2.1") {
		t.Errorf("there are %s", got)
	}
	if list, err := s.List(); err != nil || len(list) != 1 || list[0].Version != "8.0.2.1" {
		t.Errorf("listed are %+v, %v", list, err)
	}
	if err := s.Remove("vddk"); err != nil || s.there(t) != "" {
		t.Errorf("removed: %v; there are %s", err, s.there(t))
	}
	if err := s.Remove("vddk"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	if err := s.Remove("../x"); !errors.Is(err, ErrName) {
		t.Errorf("another: %v", err)
	}
}

func TestWhatIsNoVDDKIsRefused(t *testing.T) {
	good := shared("libvixDiskLib.so.8", elf.EM_X86_64)
	whole := vddk(t, "8.0.2", good)
	for name, c := range map[string]struct {
		content []byte
		text    string
	}{
		"no archive":         {[]byte("%PDF-1.4"), "it is no tar.gz"},
		"cut short":          {whole[:len(whole)-20], "was cut short"},
		"without a library":  {vddk(t, "8.x", good), "holds no vmware-vix-disklib-distrib/lib64/libvixDiskLib.so.N"},
		"for another kind":   {vddk(t, "8.0.2", shared("libvixDiskLib.so.8", elf.EM_AARCH64)), "EM_AARCH64"},
		"another library":    {vddk(t, "8.0.2", shared("libevil.so.8", elf.EM_X86_64)), "calls itself"},
		"no library":         {vddk(t, "8.0.2", bytes.Repeat([]byte("x"), 1000)), "is no ELF file"},
		"an absolute path":   {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeReg, Name: "/etc/passwd"}), "not in " + distrib},
		"a way up":           {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeReg, Name: distrib + "/../../x"}), "not in " + distrib},
		"a neighbour":        {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeReg, Name: "other/x"}), "not in " + distrib},
		"a link out":         {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeSymlink, Name: distrib + "/x", Linkname: "../../etc"}), "leads out"},
		"an absolute link":   {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeSymlink, Name: distrib + "/x", Linkname: "/etc"}), "leads out"},
		"a hard link":        {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeLink, Name: distrib + "/x", Linkname: distrib + "/y"}), "neither a file"},
		"a device":           {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeBlock, Name: distrib + "/x"}), "neither a file"},
		"a pipe":             {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeFifo, Name: distrib + "/x"}), "neither a file"},
		"two of one name":    {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeReg, Name: distrib + "/x"}, tar.Header{Typeflag: tar.TypeReg, Name: distrib + "/x"}), "two files of one name"},
		"a file as a folder": {vddk(t, "8.0.2", good, tar.Header{Typeflag: tar.TypeReg, Name: distrib + "/x"}, tar.Header{Typeflag: tar.TypeReg, Name: distrib + "/x/y"}), "two files of one name"},
		"too many":           {vddk(t, "8.0.2", good, slices.Repeat([]tar.Header{{Typeflag: tar.TypeDir, Name: distrib + "/x"}}, maxEntries)...), "more than"},
		"a bomb":             {bomb(t), "unpacks to more than"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			if _, err := s.uploaded(t, "vddk", c.content); !errors.Is(err, upload.ErrRefused) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %s", err, c.text)
			}
			if got := s.there(t); got != "" {
				t.Errorf("left are %s", got)
			}
		})
	}
}

// bomb is an archive that says it has a file of 3 GiB, and ends.
func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	out := tar.NewWriter(packed)
	if err := errors.Join(out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: distrib + "/x", Size: 3 << 30}), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// driven are the files of a driver's for some systems.
func driven(stem string, systems ...string) map[string]string {
	files := map[string]string{}
	for _, s := range systems {
		for ext, text := range map[string]string{".sys": "MZ driver", ".inf": "[Version]", ".cat": "signature"} {
			files[stem+"/"+s+"/"+strings.ToLower(stem)+ext] = text
		}
	}
	return files
}

// cd makes an image of files with a tool that others make theirs with.
func cd(t *testing.T, label string, files map[string]string, options ...string) []byte {
	t.Helper()
	guesttest.Need(t, "xorrisofs")
	folder := t.TempDir()
	for name, text := range files {
		path := filepath.Join(folder, "in", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(folder, "cd.iso")
	if _, err := proc.Run(t.Context(), "xorrisofs", append(options, "-quiet", "-V", label, "-o", image, filepath.Join(folder, "in"))...); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// virtioWin are the files of an image as Fedora's project makes it, as far as they are
// looked at.
func virtioWin() map[string]string {
	files := driven("viostor", "2k12R2/amd64", "w10/amd64", "w10/x86", "w7/amd64", "2k25/amd64")
	maps.Copy(files, driven("NetKVM", "2k12R2/amd64", "w10/amd64", "w10/x86", "2k25/amd64"))
	files["virtio-win_license.txt"] = "BSD"
	files["guest-agent/qemu-ga-x86_64.msi"] = "an installer"
	return files
}

func TestAnImageOfVirtioWinIsKept(t *testing.T) {
	const want = "Windows 10, 32 bits; Windows 10, 64 bits; Windows Server 2012 R2, 64 bits; Windows Server 2025, 64 bits"
	for name, options := range map[string][]string{"Joliet": {"-J", "-R"}, "plain": {"-iso-level", "1"}, "long names": {"-iso-level", "4", "-r"}} {
		t.Run(name, func(t *testing.T) {
			s, image := newShelf(t), cd(t, "virtio-win-0.1.285", virtioWin(), options...)
			v, err := s.uploaded(t, "virtio-win", image)
			if got := strings.Join(v.Holds, "; "); err != nil || v.Version != "0.1.285" || sorted(got) != sorted(want) {
				t.Fatalf("%+v, %v", v, err)
			}
			if text, err := os.ReadFile(filepath.Join(s.folder, "virtio-win", "virtio-win.iso")); err != nil || !bytes.Equal(text, image) {
				t.Errorf("it is kept as %d bytes, %v", len(text), err)
			}
		})
	}
}

func sorted(list string) string {
	parts := strings.Split(list, "; ")
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

func TestWhatIsNoImageOfVirtioWinIsRefused(t *testing.T) {
	label, files := "virtio-win-0.1.285", virtioWin()
	good := cd(t, label, files, "-J", "-R")
	cut := bytes.Clone(good[:len(good)/2])
	noDriver := maps.Clone(files)
	for name := range noDriver {
		if strings.HasSuffix(name, "viostor.sys") {
			noDriver[name] = "a text"
		}
	}
	for name, c := range map[string]struct {
		content []byte
		text    string
	}{
		"no image":          {bytes.Repeat([]byte("x"), 1<<20), "no ISO 9660 image"},
		"too short":         {[]byte("x"), "no ISO 9660 image"},
		"cut short":         {cut, "was cut short"},
		"another disc":      {cd(t, "Debian 12", files, "-J"), `is called "Debian 12"`},
		"without drivers":   {cd(t, label, map[string]string{"readme": "x"}, "-J"), "for no Windows that is known"},
		"one of both alone": {cd(t, label, driven("viostor", "w10/amd64"), "-J"), "for no Windows that is known"},
		"no driver":         {cd(t, label, noDriver, "-J"), "viostor.sys is no driver"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			if _, err := s.uploaded(t, "virtio-win", c.content); !errors.Is(err, upload.ErrRefused) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %s", err, c.text)
			}
			if got := s.there(t); got != "" {
				t.Errorf("left are %s", got)
			}
		})
	}
}

// TestWhatAKilledAppliancePutIsRemoved: half of a library, and one that no link leads to.
func TestWhatAKilledAppliancePutIsRemoved(t *testing.T) {
	s := newShelf(t)
	if _, err := s.uploaded(t, "vddk", vddk(t, "8.0.2", shared("libvixDiskLib.so.8", elf.EM_X86_64))); err != nil {
		t.Fatal(err)
	}
	before := s.there(t)
	for _, name := range []string{"new-123", "vddk-7.0.3-abcdef"} {
		if err := os.MkdirAll(filepath.Join(s.folder, name, distrib), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.folder, name, "library.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := Open(s.folder, time.Now); err != nil || s.there(t) != before {
		t.Errorf("%v; there are %s", err, s.there(t))
	}
}

func FuzzImage(f *testing.F) {
	image := make([]byte, 24*sector)
	head := image[firstVolume*sector:]
	copy(head, "\x01CD001\x01")
	copy(head[40:], "virtio-win-0.1.285")
	head[128+1] = sector >> 8
	copy(head[156:], []byte{34, 0, 18, 0, 0, 0, 0, 0, 0, 18, 0, 8})
	copy(image[18*sector:], "\x2a\x00\x13\x00\x00\x00\x00\x00\x00\x13\x02\x00")
	image[17*sector] = 255
	copy(image[17*sector+1:], "CD001")
	f.Add(image)
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := openImage(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		if _, err := v.drivers(); err != nil && !errors.Is(err, upload.ErrRefused) {
			t.Error(err)
		}
	})
}

func FuzzLibrary(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	f.Add(shared("libvixDiskLib.so.8", elf.EM_X86_64))
	f.Fuzz(func(t *testing.T, text []byte) {
		if name, err := sonameOf(bytes.NewReader(text), "x"); err != nil && !errors.Is(err, upload.ErrRefused) || err == nil && name == "" {
			t.Errorf("%q, %v", name, err)
		}
	})
}

func FuzzArchive(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		into, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer into.Close()
		u := &unpacker{into: into, links: map[string]string{}, left: 1 << 20}
		if err := u.all(tar.NewReader(bytes.NewReader(text))); err != nil && !errors.Is(err, upload.ErrRefused) {
			t.Error(err)
		}
	})
}
