package firstboot

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := proc.Run(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// What hyper2kvm seed makes is read by others' tools.
func TestOthersReadASeedVolume(t *testing.T) {
	guesttest.Need(t, "xorriso", "mcopy", "mlabel")
	values := map[string]string{"hostname": "m1", "ssh-key": sshKey, "settings": "log: {level: debug}"}
	folder := t.TempDir()
	iso, fat, out := filepath.Join(folder, "s.iso"), filepath.Join(folder, "s.img"), filepath.Join(folder, "out")
	for path, format := range map[string]string{iso: ISO, fat: FAT} {
		if err := os.WriteFile(path, image(t, format, values), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", out)
	for _, name := range []string{SeedFile, "ssh-key.pub", "settings.yaml"} {
		text, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || len(text) == 0 {
			t.Errorf("xorriso reads %s: %v", name, err)
		}
		if got := run(t, "mcopy", "-i", fat, "::"+name, "-"); got != string(text) {
			t.Errorf("mtools reads %s as %q, xorriso as %q", name, got, text)
		}
	}
	if said := run(t, "xorriso", "-indev", iso, "-toc"); !strings.Contains(said, "'HYPER2KVM-SEED'") && !strings.Contains(said, "HYPER2KVM-SEED") {
		t.Errorf("xorriso tells of the label %s", said)
	}
	if said := run(t, "mlabel", "-s", "-i", fat, "::"); !strings.Contains(said, "HYPER2KVM-S") {
		t.Errorf("mtools tells of the label %s", said)
	}
}

// What others' tools make is read.
func TestSeedVolumesOfOthersAreRead(t *testing.T) {
	guesttest.Need(t, "xorrisofs", "mcopy", "mkfs.vfat")
	folder := t.TempDir()
	in := filepath.Join(folder, "in")
	certificate, _ := pair(t, "marta")
	for name, text := range map[string]string{SeedFile: "hostname: of-others\ntrust: {file: Certificate_of_Marta.pem}\n", "Certificate_of_Marta.pem": certificate, "x/hyper2kvm.yaml": "hostname: no"} {
		path := filepath.Join(in, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	seen := func(name string, path string) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := newMachine(t)
		m.disk("nvme0n1", "nvme0n1p2", data)
		r := m.boot(nil)
		if etc := m.etc(); etc[hostnamePath] != "of-others\n" || etc[trustPath+" private"] != certificate || len(r.Problems) > 0 {
			t.Errorf("%s: %q, %q", name, sorted(etc), r.Problems)
		}
	}
	for _, options := range [][]string{{"-r"}, {"--norock", "-J"}, {"-J", "-r"}, {"--norock", "-iso-level", "4"}} {
		path := filepath.Join(folder, "x.iso")
		run(t, "xorrisofs", append(options, "-quiet", "-V", "hyper2kvm-seed", "-o", path, in)...)
		seen(strings.Join(options, " "), path)
	}
	other := filepath.Join(folder, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for width, v := range map[string]struct {
		size   string
		before int64 // bytes of a file that takes up clusters before, on FAT32 the first 65536
	}{"12": {"2048", 1 << 20}, "16": {"20480", 10 << 20}, "32": {"40960", 34 << 20}} {
		path := filepath.Join(folder, width+".img")
		run(t, "mkfs.vfat", "-C", "-F", width, "-n", "HYPER2KVM-S", path, v.size)
		if err := os.Truncate(other, v.before); err != nil {
			t.Fatal(err)
		}
		run(t, "mcopy", "-i", path, other, "::")
		run(t, "mcopy", "-s", "-i", path, in+"/x", in+"/hyper2kvm.yaml", in+"/Certificate_of_Marta.pem", "::")
		seen("FAT"+width, path)
	}
}

// A long name counts with the short one that it was made for: others, which do not know
// them, leave them behind.
func TestALongNameOfAnotherFileDoesNotCount(t *testing.T) {
	data := image(t, FAT, map[string]string{"hostname": "m1"})
	v, err := openFAT(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.open(SeedFile, mostSeed); err != nil {
		t.Fatal(err)
	}
	short := bytes.Index(data, []byte("HYPER2~1YAM"))
	copy(data[short:], "ANOTHER YAM")
	if _, err := v.open(SeedFile, mostSeed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open = %v", err)
	}
	if _, err := v.open("another.yam", mostSeed); err != nil {
		t.Errorf("open = %v", err)
	}
}

// A damaged volume is told of and holds nobody up: each byte of what describes it is
// changed, and what was there is not taken for something else.
func TestADamagedSeedVolumeDoesNoHarm(t *testing.T) {
	for format, spans := range map[string][][2]int{ISO: {{16 * isoSector, 16*isoSector + 200}, {17 * isoSector, 17*isoSector + 200}}, FAT: {{0, 90}}} {
		whole := image(t, format, map[string]string{"hostname": "m1", "ssh-key": sshKey})
		for _, span := range spans {
			for at := span[0]; at < span[1]; at++ {
				for _, b := range []byte{0, 0xFF, 0x80} {
					damaged := bytes.Clone(whole)
					damaged[at] = b
					readAll(damaged)
				}
			}
		}
	}
}

// readAll reads a volume as first boot does, whatever it is, and what it says.
func readAll(data []byte) (said []*source) {
	for _, open := range openers {
		if v, err := open(bytes.NewReader(data)); err == nil {
			said = append(said, readSeed("x", v.open))
		}
	}
	return said
}

func TestWhatIsNoSeedVolumeIsNotOpened(t *testing.T) {
	m := newMachine(t)
	m.disk("sda", "", isoOf(t, map[string]string{"other.txt": "x"}))
	one(t, m.boot(nil).Problems, "the seed volume on /dev/sda: there is no hyper2kvm.yaml on it")
	other := image(t, FAT, map[string]string{"hostname": "a"})
	other = bytes.ReplaceAll(other, []byte("HYPER2KVM-S"), []byte("HYPER2KVM-X"))
	m.disk("sda", "", other)
	m.disk("sr0", "", image(t, ISO, map[string]string{"hostname": "a"}))
	m.put("sys/block/sr0/size", "0\n") // no medium
	if r := m.boot(nil); len(r.Sources)+len(r.Problems) > 0 {
		t.Errorf("%+v", r)
	}
}

func TestADiskThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	hangs := make(chan struct{})
	defer close(hangs)
	s := within(time.Millisecond, func() *source {
		<-hangs
		return nil
	})
	one(t, s.problems, "a disk does not answer within 1ms")
}

// FuzzVolumes writes something into a volume, which is then read.
func FuzzVolumes(f *testing.F) {
	iso, fat := image(f, ISO, map[string]string{"hostname": "m1", "ssh-key": sshKey}), image(f, FAT, map[string]string{"hostname": "m1"})[:64<<10]
	f.Add(uint32(16*isoSector+80), []byte{0xFF, 0xFF, 0xFF, 0xFF}, true)
	f.Add(uint32(20*isoSector), []byte{1, 0}, true)
	f.Add(uint32(11), []byte{0, 2, 1, 1, 0, 2, 0, 1}, false)
	f.Add(uint32(512), []byte{3, 0x40, 0}, false)
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, ofISO bool) {
		data := bytes.Clone(fat)
		if ofISO {
			data = bytes.Clone(iso)
		}
		copy(data[int(at)%len(data):], patch)
		for _, s := range readAll(data) {
			for _, text := range s.said {
				if len(text) > mostText {
					t.Errorf("a value has %d bytes", len(text))
				}
			}
		}
	})
}

// FuzzSaid reads a text as each source that has texts, and settles it.
func FuzzSaid(f *testing.F) {
	certificate, key := pair(f, "a")
	for _, text := range []string{"hostname: a\naddress: [192.0.2.1/24]\n", "settings: {log: {level: debug}}", "trust: " + line(certificate), "key: " + line(key), "hyper2kvm.hostname=a hyper2kvm.nic=\"x y\"",
		vsphere(map[string]string{"hostname": "a", "dns": "192.0.2.1"}), "join-token: " + token(f), "ssh-key: [" + sshKey + "]", "{hostname: {file: x}}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		seed := newSource(fromSeed)
		seed.yaml("x", []byte(text), func(string, int64) ([]byte, error) { return []byte(text), nil })
		sources := []*source{readOVF([]byte(text)), seed, readKernel(text)}
		said, _ := over(sources)
		s := settle(said, []card{{"eth0", "00:50:56:01:02:03", true}})
		for _, file := range wanted(&s.Settings, s.card) {
			if file.path == networkPath && strings.ContainsAny(file.text, "\x00\r") || file.path == hostnamePath && strings.Count(file.text, "\n") != 1 {
				t.Errorf("%q makes %s %q", text, file.path, file.text)
			}
		}
		for _, problem := range s.problems {
			if len(problem) > 1000 || strings.ContainsAny(problem, "\n\x00\x1b") {
				t.Errorf("%q makes the sentence %q", text, problem)
			}
		}
	})
}
