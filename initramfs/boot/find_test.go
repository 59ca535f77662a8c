package boot

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// sysfs has folders such as /sys/class/block and /dev, with disks.
type sysfs struct {
	t *testing.T
	kernel
}

func newSysfs(t *testing.T) *sysfs {
	folder := t.TempDir()
	return &sysfs{t, kernel{filepath.Join(folder, "class/block"), filepath.Join(folder, "dev")}}
}

func (s *sysfs) write(path, text string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sysfs) link(name, to string) {
	s.t.Helper()
	if err := os.MkdirAll(s.blocks, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Symlink(to, filepath.Join(s.blocks, name)); err != nil {
		s.t.Fatal(err)
	}
}

// disk adds one with partitions: their labels and UUIDs in pairs.
func (s *sysfs) disk(name, serial string, parts ...[2]string) {
	s.t.Helper()
	real := filepath.Join(s.blocks, "../../devices/pci", name)
	s.write(filepath.Join(real, "size"), "2097152\n")
	s.write(filepath.Join(real, "ro"), "0\n")
	s.write(filepath.Join(real, "serial"), serial+"\n")
	s.link(name, real)
	table := &gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512}
	for i, p := range parts {
		part := name + string(rune('1'+i))
		at := filepath.Join(real, part)
		s.write(filepath.Join(at, "partition"), strconv.Itoa(i+1)+"\n")
		s.write(filepath.Join(at, "size"), "2048\n")
		s.write(filepath.Join(at, "start"), "2048\n")
		s.link(part, at)
		table.Partitions = append(table.Partitions, &gpt.Partition{Index: i + 1, Start: uint64(2048 * (i + 1)), End: uint64(2048*(i+2) - 1), Type: gpt.LinuxFilesystem, Name: p[0], GUID: p[1]})
	}
	s.device(name, table)
}

// device is what can be read of a disk.
func (s *sysfs) device(name string, table *gpt.Table) {
	s.t.Helper()
	if err := os.MkdirAll(s.dev, 0o755); err != nil {
		s.t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(s.dev, name))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(16<<20), table.Write(f, 16<<20)); err != nil {
		s.t.Fatal(err)
	}
}

const hash = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"

var (
	rootPart   = [2]string{"hyper2kvm-root", "00112233-4455-6677-8899-aabbccddeeff"}
	hashesPart = [2]string{"hyper2kvm-root-verity", "01234567-89ab-cdef-0123-456789abcdef"}
	otherPart  = [2]string{"data", "aaaaaaaa-0000-0000-0000-000000000000"}
)

func TestTheAppliancesDiskIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		line  string
		disks func(*sysfs)
		want  string // the root's name, and that of the hashes
		words string // of the problem
	}{
		"by hash":                  {"roothash=" + hash, func(s *sysfs) { s.disk("sda", "A", otherPart); s.disk("sdb", "B", rootPart, hashesPart) }, "sdb1 sdb2", ""},
		"by the root's UUID":       {"root=PARTUUID=" + strings.ToUpper(rootPart[1]), func(s *sysfs) { s.disk("vda", "", otherPart, rootPart) }, "vda2 ", ""},
		"by label":                 {"quiet", func(s *sysfs) { s.disk("sda", "A", rootPart) }, "sda1 ", ""},
		"of two disks one named":   {"hyper2kvm.disk=B roothash=" + hash, func(s *sysfs) { s.disk("sda", "A", rootPart, hashesPart); s.disk("sdb", "B", rootPart, hashesPart) }, "sdb1 sdb2", ""},
		"two disks":                {"roothash=" + hash, func(s *sysfs) { s.disk("sda", "A", rootPart, hashesPart); s.disk("sdb", "B", rootPart, hashesPart) }, "", "on more than one disk: sda A and sdb B"},
		"a serial with blanks":     {"hyper2kvm.disk=t10.ATA_QEMU_1 roothash=" + hash, func(s *sysfs) { s.disk("sda", "t10.ATA     QEMU  1", rootPart, hashesPart) }, "sda1 sda2", ""},
		"another version":          {"roothash=" + strings.Repeat("ab", 32), func(s *sysfs) { s.disk("sda", "A", rootPart, hashesPart) }, "", "another version than this boot entry"},
		"no hashes":                {"roothash=" + hash, func(s *sysfs) { s.disk("sda", "A", rootPart) }, "", "not the hashes"},
		"another disk is named":    {"hyper2kvm.disk=C roothash=" + hash, func(s *sysfs) { s.disk("sda", "A", rootPart, hashesPart) }, "", "not on the disk C that the boot entry names; there are sda A"},
		"other disks":              {"", func(s *sysfs) { s.disk("sda", "A", otherPart) }, "", "none of the disks sda A has"},
		"no disk":                  {"hyper2kvm.wait=7", func(*sysfs) {}, "", "no disk with partitions was found in 7s"},
		"a hash that is too short": {"roothash=0011", func(s *sysfs) { s.disk("sda", "A", rootPart, hashesPart) }, "", "another version"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSysfs(t)
			c.disks(s)
			o, err := Parse(c.line)
			if err != nil {
				t.Fatal(err)
			}
			h, err := o.home(s.kernel, s.partitions())
			if c.words != "" {
				var p *Problem
				if !errors.As(err, &p) || !strings.Contains(p.What, c.words) || p.Try == "" {
					t.Errorf("got %v, want %q and what to try", err, c.words)
				}
				return
			}
			if got := h.root.Name + " " + h.hashes.Name; err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestADiskThatIsNamedIsWaitedFor, also beside several others that were there before.
func TestADiskThatIsNamedIsWaitedFor(t *testing.T) {
	s := newSysfs(t)
	s.disk("sda", "A", rootPart, hashesPart)
	s.disk("sdb", "B", rootPart, hashesPart)
	o, err := Parse("hyper2kvm.disk=C roothash=" + hash)
	if err != nil {
		t.Fatal(err)
	}
	late := time.Now().Add(settled + settled/2)
	h, err := o.await(s.kernel, func() {
		if !late.IsZero() && time.Now().After(late) {
			late = time.Time{}
			s.disk("sdc", "C", rootPart, hashesPart)
		}
	})
	if err != nil || h.root.Name != "sdc1" {
		t.Errorf("started from %q, %v", h.root.Name, err)
	}
}

func TestOptionsAreRead(t *testing.T) {
	o, err := Parse("BOOT_IMAGE=/vmlinuz hyper2kvm.toram hyper2kvm.factory-reset hyper2kvm.state=ram hyper2kvm.wait=5 quiet")
	if err != nil || !o.ToRAM || !o.FactoryReset || !o.StateInRAM || o.Wait.Seconds() != 5 {
		t.Errorf("got %+v, %v", o, err)
	}
	if _, err := Parse("hyper2kvm.wait=long"); err == nil || !strings.Contains(err.Error(), "hyper2kvm.wait=60") {
		t.Errorf("a wait that is no number gives %v", err)
	}
}
