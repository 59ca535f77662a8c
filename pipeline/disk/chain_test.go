package disk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/proc"
)

// pattern is data of so many sectors of which every sector tells where it is,
// with holes of a grain's size between them.
func pattern(sectors int) []byte {
	raw := make([]byte, sectors*sectorSize)
	for i := range sectors {
		if i/128%3 != 1 {
			copy(raw[i*sectorSize:], fmt.Sprintf("sector %d of the disk", i))
		}
	}
	return raw
}

// served are a disk's bytes as QEMU reads them, which must be those that are read
// from its files.
func served(t *testing.T, c *Chain) []byte {
	t.Helper()
	must(0, must(c.Open(t.Context()))(t).Close())(t)
	s := byQEMU(t, c)
	out := filepath.Join(t.TempDir(), "served.raw")
	must(proc.Run(t.Context(), "qemu-img", "convert", "-f", "raw", "-O", "raw", s.URI(), out))(t)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if s.Size != c.Size {
		t.Errorf("it is served with %d bytes, its headers say %d", s.Size, c.Size)
	}
	theirs := must(os.ReadFile(out))(t)
	if c.Legible() {
		differ(t, "read from its files", legible(t, c), theirs)
	}
	return theirs
}

// legible are a disk's bytes as they are read from its files: where it has extents,
// in pieces that begin and end anywhere.
func legible(t *testing.T, c *Chain) []byte {
	t.Helper()
	d := must(c.Read())(t)
	defer func() { must(0, d.Close())(t) }()
	all, again := make([]byte, c.Size), make([]byte, c.Size)
	must(0, d.Read(all, 0))(t)
	for off := int64(0); off < c.Size; {
		list := must(d.Extents(off, min(c.Size-off, 3<<20+512)))(t)
		for _, a := range list {
			if a.Offset != off || a.Length <= 0 {
				t.Fatalf("an extent is %+v, want one at %d", a, off)
			}
			for n := int64(7777); !a.Zero && off < a.Offset+a.Length; off += n {
				n = min(n, a.Offset+a.Length-off)
				must(0, d.Read(again[off:off+n], off))(t)
			}
			off = a.Offset + a.Length
		}
	}
	differ(t, "read where its extents say", again, all)
	return all
}

func readChain(t *testing.T, path string, allowed ...string) *Chain {
	t.Helper()
	return must(ReadChain(t.Context(), path, must(Sniff(path))(t), allowed))(t)
}

func needServers(t *testing.T) {
	t.Helper()
	need(t, "qemu-img")
	need(t, "qemu-io")
	need(t, "qemu-nbd")
}

func differ(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d bytes are served, want %d", what, len(got), len(want))
		return
	}
	for i := 0; i < len(want); i += sectorSize {
		if !bytes.Equal(got[i:i+sectorSize], want[i:i+sectorSize]) {
			t.Errorf("%s: sector %d is %.30q, want %.30q", what, i/sectorSize, got[i:i+sectorSize], want[i:i+sectorSize])
			return
		}
	}
}

// disks are the same data in every format of VMware's, each in a folder of its own.
func disks(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	made := sources(t, raw)
	delete(made, "raw")
	delete(made, "qcow2")
	sectors := int64(len(raw) / sectorSize)
	folder := func(files map[string][]byte) string {
		dir := t.TempDir()
		for name, data := range files {
			writeFile(t, filepath.Join(dir, name), string(data))
		}
		return dir
	}
	dir := folder(map[string][]byte{"disk-flat.vmdk": raw})
	made["vmfs"] = described(t, dir, "disk.vmdk", 1, nil, fmt.Sprintf(`RW %d VMFS "disk-flat.vmdk"`, sectors))
	dir = folder(map[string][]byte{"disk-delta.vmdk": cowd(sectors, grainsOf(raw, sectorSize))})
	made["vmfsSparse"] = described(t, dir, "disk.vmdk", 1, nil, fmt.Sprintf(`RW %d VMFSSPARSE "disk-delta.vmdk"`, sectors))
	dir = folder(map[string][]byte{"disk-sesparse.vmdk": sesparse(sectors, grainsOf(raw, 4096))})
	made["seSparse"] = described(t, dir, "disk.vmdk", 1, nil, fmt.Sprintf(`RW %d SESPARSE "disk-sesparse.vmdk"`, sectors))
	dir = folder(map[string][]byte{"disk.vmdk": stream(t, sectors, grainsOf(raw, 64<<10))})
	made["stream with a footer"] = filepath.Join(dir, "disk.vmdk")
	half := len(raw) / 2 / sectorSize * sectorSize
	dir = folder(map[string][]byte{"a.vmdk": append(make([]byte, 1024), raw[:half]...), "b-delta.vmdk": cowd(sectors-int64(half/sectorSize), grainsOf(raw[half:], sectorSize))})
	made["flat at an offset, then sparse"] = described(t, dir, "disk.vmdk", 1, nil,
		fmt.Sprintf("rw %d Flat \"a.vmdk\" 2\r\nRDONLY %d SPARSE \"b-delta.vmdk\"\r\n", half/sectorSize, sectors-int64(half/sectorSize)))
	return made
}

func TestEveryKindOfVMDKIsServedAsItIs(t *testing.T) {
	needServers(t)
	for _, sectors := range []int{2048, 2048 + 77} {
		raw := pattern(sectors)
		for name, path := range disks(t, raw) {
			before := folderDigest(t, filepath.Dir(path))
			differ(t, name, served(t, readChain(t, path)), raw)
			if folderDigest(t, filepath.Dir(path)) != before {
				t.Errorf("%s: the source was written", name)
			}
		}
	}
}

// QEMU leaves out extents of kind ZERO without a word, and what follows would
// slip towards the beginning.
func TestZerosBetweenExtentsKeepTheirPlace(t *testing.T) {
	needServers(t)
	raw := pattern(3 * 128)
	clear(raw[128*sectorSize : 256*sectorSize])
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.vmdk"), string(raw[:128*sectorSize]))
	writeFile(t, filepath.Join(dir, "b.vmdk"), string(raw[256*sectorSize:]))
	path := described(t, dir, "disk.vmdk", 1, nil, "RW 128 FLAT \"a.vmdk\" 0\nRW 128 ZERO\nRW 128 FLAT \"b.vmdk\" 0\n")
	differ(t, "zeros between", served(t, readChain(t, path)), raw)
}

func TestAPartThatIsRoundedUpEndsWhereTheDiskDoes(t *testing.T) {
	needServers(t)
	raw := pattern(8192)
	path := sources(t, raw)["monolithicSparse"]
	data := bytes.Replace(must(os.ReadFile(path))(t), []byte("RW 8192 SPARSE"), []byte("RW 8100 SPARSE"), 1)
	writeFile(t, path, string(data))
	differ(t, "rounded up", served(t, readChain(t, path)), raw[:8100*sectorSize])
}

// Split disks have pieces of 2 GB; this one has two, with data around the seam.
func TestADiskInPiecesIsServedAcrossTheSeam(t *testing.T) {
	needServers(t)
	dir := t.TempDir()
	raw := filepath.Join(dir, "disk.raw")
	writeFile(t, raw, "")
	if err := os.Truncate(raw, 2<<30+64<<20); err != nil {
		t.Fatal(err)
	}
	must(proc.Run(t.Context(), "qemu-io", "-f", "raw", "-c", "write -P 7 2047M 2M", "-c", "write -P 9 2111M 1M", raw))(t)
	for _, kind := range []string{"twoGbMaxExtentSparse", "twoGbMaxExtentFlat"} {
		path := filepath.Join(dir, kind+".vmdk")
		must(proc.Run(t.Context(), "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+kind, raw, path))(t)
		c := readChain(t, path)
		if len(c.Files()) != 3 {
			t.Errorf("%s is in %q", kind, c.Files())
		}
		s := byQEMU(t, c)
		if _, err := proc.Run(t.Context(), "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, s.URI()); err != nil || s.Size != 2<<30+64<<20 {
			t.Errorf("%s: %d bytes: %v", kind, s.Size, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A disk in more pieces than a program may have files open.
func TestADiskInVeryManyPiecesIsServed(t *testing.T) {
	needServers(t)
	const pieces = 300
	raw, dir := pattern(pieces), t.TempDir()
	var extents strings.Builder
	for i := range pieces {
		name := fmt.Sprintf("disk-f%03d.vmdk", i+1)
		writeFile(t, filepath.Join(dir, name), string(raw[i*sectorSize:][:sectorSize]))
		fmt.Fprintf(&extents, "RW 1 FLAT %q 0\n", name)
	}
	path := described(t, dir, "disk.vmdk", 1, nil, extents.String())
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	}()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: fewFiles, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	differ(t, "300 pieces", served(t, readChain(t, path)), raw)
	if err := manyFiles(path, int(was.Max)); err == nil || !strings.Contains(err.Error(), "raise that (ulimit -Hn ") {
		t.Errorf("more files than may be opened: %v", err)
	}
}

// change puts text into raw data and returns the grains that this touches, of
// which each is whole.
func change(raw []byte, sector, n int, text string, grain int) map[int64][]byte {
	for i := range n {
		clear(raw[(sector+i)*sectorSize:][:sectorSize])
		copy(raw[(sector+i)*sectorSize:], fmt.Sprintf("%s %d", text, i))
	}
	grains := map[int64][]byte{}
	for at := sector * sectorSize / grain; at*grain < (sector+n)*sectorSize; at++ {
		grains[int64(at)] = bytes.Clone(raw[at*grain : min(len(raw), (at+1)*grain)])
	}
	return grains
}

// Over every kind of base: a snapshot as hosted products make it, one of ESXi in
// the old format, one in the new, and one in pieces. Each sees those below it.
func TestASnapshotIsServedWithAllThatItStandsOn(t *testing.T) {
	needServers(t)
	const sectors = 2048 + 77
	bases := disks(t, pattern(sectors))
	delete(bases, "flat at an offset, then sparse") // qemu-img would make no snapshot of it
	for name, base := range bases {
		raw, dir := pattern(sectors), filepath.Dir(base)
		chain := []string{base}
		over := func(name, kind string) string {
			path := filepath.Join(dir, name)
			must(proc.Run(t.Context(), "qemu-img", "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", filepath.Base(chain[len(chain)-1]), "-o", "subformat="+kind, path))(t)
			return path
		}

		path := over("disk-000001.vmdk", "monolithicSparse")
		must(proc.Run(t.Context(), "qemu-io", "-f", "vmdk", "-c", fmt.Sprintf("write -P 0x5a %d %d", 200*sectorSize, 300*sectorSize), path))(t)
		for i := range raw[200*sectorSize : 500*sectorSize] {
			raw[200*sectorSize+i] = 0x5a
		}
		chain = append(chain, path)

		grains := change(raw, 400, 9, "old format", sectorSize)
		writeFile(t, filepath.Join(dir, "disk-000002-delta.vmdk"), string(cowd(sectors, grains)))
		chain = append(chain, described(t, dir, "disk-000002.vmdk", 2, readChain(t, path), fmt.Sprintf(`RW %d VMFSSPARSE "disk-000002-delta.vmdk"`, sectors)))

		grains = change(raw, 1500, 100, "new format", 4096)
		clear(raw[7*4096 : 8*4096])
		writeFile(t, filepath.Join(dir, "disk-000003-sesparse.vmdk"), string(sesparse(sectors, grains, 7)))
		chain = append(chain, described(t, dir, "disk-000003.vmdk", 3, readChain(t, chain[2]), fmt.Sprintf(`RW %d SESPARSE "disk-000003-sesparse.vmdk"`, sectors)))

		chain = append(chain, over("disk-000004.vmdk", "twoGbMaxExtentSparse"))

		before := folderDigest(t, dir)
		c := readChain(t, chain[4])
		differ(t, "snapshots over "+name, served(t, c), raw)
		if folderDigest(t, dir) != before {
			t.Errorf("over %s: the source was written", name)
		}
		if d := cmp.Diff([]string{chain[3], chain[2], chain[1], chain[0]}, c.Parents()); d != "" {
			t.Errorf("parents over %s:\n%s", name, d)
		}
		for _, f := range must(os.ReadDir(dir))(t) {
			if !strings.Contains(strings.Join(c.Files(), "\n")+"\n", f.Name()+"\n") {
				t.Errorf("over %s: %s is no file of the disk", name, f.Name())
			}
		}
	}
}

// Content IDs, parents and loops: what a chain cannot be.
func TestAChainThatIsBrokenIsNamed(t *testing.T) {
	need(t, "qemu-img")
	raw := pattern(256)
	fresh := func() (dir string, base, snapshot string) {
		dir = t.TempDir()
		writeFile(t, filepath.Join(dir, "web-flat.vmdk"), string(raw))
		base = described(t, dir, "web.vmdk", 7, nil, `RW 256 VMFS "web-flat.vmdk"`)
		writeFile(t, filepath.Join(dir, "web-000001-delta.vmdk"), string(cowd(256, nil)))
		return dir, base, described(t, dir, "web-000001.vmdk", 8, readChain(t, base), `RW 256 VMFSSPARSE "web-000001-delta.vmdk"`)
	}
	replace := func(path, old, now string) {
		t.Helper()
		text := string(must(os.ReadFile(path))(t))
		if !strings.Contains(text, old) {
			t.Fatalf("%s does not say %q", path, old)
		}
		writeFile(t, path, strings.Replace(text, old, now, 1))
	}
	for name, c := range map[string]struct {
		spoil func(dir, base, snapshot string)
		says  string
	}{
		"none":                   {func(string, string, string) {}, ""},
		"the parent was written": {func(_, base, _ string) { replace(base, "CID=00000007", "CID=00000009") }, "was written after the snapshot was taken (its content ID is 00000009, the snapshot's is 00000007)"},
		"the parent is missing":  {func(_, base, _ string) { must(0, os.Remove(base))(t) }, "it is a snapshot of \"web.vmdk\": disk depends on other files: web.vmdk does not exist; put it into "},
		"the parent's data are":  {func(dir, _, _ string) { must(0, os.Remove(filepath.Join(dir, "web-flat.vmdk")))(t) }, "its data are in \"web-flat.vmdk\": disk depends on other files: web-flat.vmdk does not exist"},
		"it is its own parent":   {func(_, _, snapshot string) { replace(snapshot, `="web.vmdk"`, `="web-000001.vmdk"`) }, "they go round in a loop"},
		"the parent stands on it": {func(_, base, _ string) {
			replace(base, "parentCID=ffffffff", "parentCID=00000008\nparentFileNameHint=\"web-000001.vmdk\"")
		}, "they go round in a loop"},
		"another disk is the name":  {func(dir, base, _ string) { replace(base, "RW 256", "RW 200") }, "it is a snapshot of another disk"},
		"it names no parent":        {func(_, _, snapshot string) { replace(snapshot, `parentFileNameHint="web.vmdk"`, "") }, "it is a snapshot (parentCID), and not of which disk"},
		"it names one and has none": {func(_, _, snapshot string) { replace(snapshot, "parentCID=00000007", "parentCID=ffffffff") }, "names the parent \"web.vmdk\", and says that it has none"},
		"the parent is a folder":    {func(_, base, _ string) { must(0, errors.Join(os.Remove(base), os.Mkdir(base, 0o700)))(t) }, "is not a file"},
		"the parent is encrypted": {func(_, base, _ string) {
			replace(base, "version=1", "version=4\nencryptionKeys=\"vmware:key/list/(pair/())\"")
		}, "web.vmdk: disk is encrypted"},
	} {
		dir, base, snapshot := fresh()
		c.spoil(dir, base, snapshot)
		_, err := ReadChain(t.Context(), snapshot, VMDK, nil)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: ReadChain = %v, want %q", name, err, c.says)
		}
	}
}

func TestTooManySnapshotsAreNamed(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "delta.vmdk"), string(cowd(256, nil)))
	for i := range maxLinks + 2 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("d%d.vmdk", i)), fmt.Sprintf("# Disk DescriptorFile\nCID=1\nparentCID=1\nparentFileNameHint=\"d%d.vmdk\"\ncreateType=\"vmfsSparse\"\nRW 256 VMFSSPARSE \"delta.vmdk\"\n", i+1))
	}
	_, err := ReadChain(t.Context(), filepath.Join(dir, "d0.vmdk"), VMDK, nil)
	if !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), "it is the 129th snapshot over one another") {
		t.Errorf("ReadChain = %v", err)
	}
}

// A linked clone stands on a disk in another folder, which the operator has to
// allow; so do extents that lie elsewhere.
func TestAFolderElsewhereIsReadOnlyWhenItIsAllowed(t *testing.T) {
	needServers(t)
	raw := pattern(256)
	top := t.TempDir()
	base, clone := filepath.Join(top, "base vm"), filepath.Join(top, "clone")
	for _, dir := range []string{base, clone} {
		must(0, os.Mkdir(dir, 0o700))(t)
	}
	writeFile(t, filepath.Join(base, "web-flat.vmdk"), string(raw))
	parent := readChain(t, described(t, base, "web.vmdk", 7, nil, `RW 256 VMFS "web-flat.vmdk"`))
	writeFile(t, filepath.Join(clone, "web-delta.vmdk"), string(cowd(256, change(raw, 3, 4, "of the clone", sectorSize))))
	for name, hint := range map[string]string{
		"relative":         "../base vm/web.vmdk",
		"of this system":   filepath.Join(base, "web.vmdk"),
		"of an ESXi host":  "/vmfs/volumes/5f1b2c3d-aabbccdd/base/web.vmdk",
		"of Windows":       `D:\VMs\base\web.vmdk`,
		"a Windows share":  `\\server\vms\base\web.vmdk`,
		"relative there":   `..\base vm\web.vmdk`,
		"of a drive there": `D:web.vmdk`,
	} {
		// VMware names the clone's disk as the original's
		path := described(t, clone, "web.vmdk", 8, parent, `RW 256 VMFSSPARSE "web-delta.vmdk"`)
		text := string(must(os.ReadFile(path))(t))
		writeFile(t, path, strings.Replace(text, `parentFileNameHint="web.vmdk"`, `parentFileNameHint="`+hint+`"`, 1))
		_, err := ReadChain(t.Context(), path, VMDK, nil)
		if !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), AllowFlag) {
			t.Errorf("%s: ReadChain = %v, want %v", name, err, ErrChain)
		}
		if strings.HasPrefix(hint, "..") && !strings.HasSuffix(err.Error(), fmt.Sprintf("if it is meant, give --allow-folder '%s'", base)) {
			t.Errorf("%s: ReadChain = %v", name, err)
		}
		differ(t, name, served(t, readChain(t, path, base)), raw)
	}
	if _, err := ReadChain(t.Context(), filepath.Join(clone, "web.vmdk"), VMDK, []string{filepath.Join(top, "absent")}); err == nil || !strings.Contains(err.Error(), "--allow-folder") {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestExtentsElsewhereAreReadOnlyWhenTheyAreAllowed(t *testing.T) {
	needServers(t)
	raw := pattern(256)
	elsewhere, dir := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(elsewhere, "web-flat.vmdk"), string(raw))
	path := described(t, dir, "web.vmdk", 7, nil, fmt.Sprintf("RW 256 FLAT %q 0", filepath.Join(elsewhere, "web-flat.vmdk")))
	link := filepath.Join(dir, "link.vmdk")
	must(0, os.Symlink(filepath.Join(elsewhere, "web-flat.vmdk"), link))(t)
	linked := described(t, dir, "linked.vmdk", 7, nil, `RW 256 VMFS "link.vmdk"`)
	for _, p := range []string{path, linked} {
		if _, err := ReadChain(t.Context(), p, VMDK, nil); !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), "give --allow-folder "+elsewhere) {
			t.Errorf("ReadChain = %v, want %v", err, ErrChain)
		}
		differ(t, p, served(t, readChain(t, p, elsewhere)), raw)
	}
}

// Windows and macOS take other names for the same.
func TestANameIsFoundAsTheSystemThatWroteItWould(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Web-s001.vmdk", "Bu\u0308ro.vmdk", "two.vmdk", "TWO.vmdk", "\xff.vmdk"} {
		writeFile(t, filepath.Join(dir, name), "")
	}
	for name, want := range map[string]string{
		"web-S001.VMDK": "Web-s001.vmdk", `C:\x\WEB-s001.vmdk`: "Web-s001.vmdk", "B\u00fcro.vmdk": "Bu\u0308ro.vmdk",
		"two.vmdk": "two.vmdk", "Two.vmdk": "", "we-s001.vmdk": "", "\xff.vmdk": "",
	} {
		got, err := (folders{dir}).find(name, "")
		if (want == "") != (err != nil) || want != "" && got != filepath.Join(dir, want) {
			t.Errorf("find(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestNamesThatAreNoneOfTheFoldersAreNotFollowed(t *testing.T) {
	for _, name := range []string{"/etc/passwd", "../passwd", "..", ".", "/", `C:\`, "nbd:localhost:10809", "json:{}", "/dev/zero", "/proc/self/exe"} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "passwd"), "outside")
		path := filepath.Join(dir, "sub", "web.vmdk")
		if got, err := (folders{filepath.Join(dir, "sub")}).find(name, path); err == nil {
			t.Errorf("find(%q) = %q", name, got)
		}
	}
}
