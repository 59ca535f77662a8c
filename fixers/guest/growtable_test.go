package guest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/proc"
)

// parted makes a disk that sfdisk gives a partition table, and then a larger one
// of it.
func parted(t *testing.T, table string, from, to int64) *os.File {
	t.Helper()
	if _, err := proc.Look("sfdisk"); err != nil {
		if os.Getenv("NEED_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(from); err != nil {
		t.Fatal(err)
	}
	if _, err := (proc.Command{Name: "sfdisk", Args: []string{"--quiet", f.Name()}, Stdin: strings.NewReader(table)}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(to); err != nil {
		t.Fatal(err)
	}
	return f
}

// dump is a table as sfdisk tells it.
func dump(t *testing.T, f *os.File) []string {
	t.Helper()
	out, err := proc.Run(t.Context(), "sfdisk", "--dump", f.Name())
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(out), f.Name(), "p"), " ", "")
	return strings.Split(strings.TrimSpace(text), "\n")
}

// topology is what lies on the disk, with a file system that is whole on each
// partition.
func topology(t *testing.T, f *os.File, size int64, fstype string) (Topology, []Health) {
	t.Helper()
	d, err := ReadTable(f, size)
	if err != nil {
		t.Fatal(err)
	}
	d.Name = "disk0"
	top := Topology{}
	var whole []Health
	for i := range d.Partitions {
		p := &d.Partitions[i]
		p.Name = "disk0p" + string(rune('0'+p.Number))
		top.Filesystems = append(top.Filesystems, Filesystem{Device: p.Name, Type: fstype, Size: p.Size, Span: p.Size})
		whole = append(whole, Health{Device: p.Name, State: Clean})
	}
	top.Disks = []Disk{d}
	return top, whole
}

const mib, gib = 1 << 20, 1 << 30

func TestATableGrowsWithItsDiskAsSfdiskSeesIt(t *testing.T) {
	const plainGPT = `label: gpt
label-id: 0C7D5E1A-0000-4000-8000-0000000000AA
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=0C7D5E1A-0000-4000-8000-000000000001, name="BIOS boot"
start=4096, size=124928, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=0C7D5E1A-0000-4000-8000-000000000002, name="root", attrs="LegacyBIOSBootable"
`
	const logical = `label: dos
label-id: 0xdeadbe01
1: start=2048, size=32768, type=83, bootable
2: start=34816, size=96256, type=5
5: start=36864, size=20480, type=82
6: start=59392, size=20480, type=83
`
	for _, test := range []struct {
		name, table, fstype string
		from, to            int64
		was, is             []string // lines of the dump that change
	}{
		{"the last partition of a GPT", plainGPT, "ext4", 64 * mib, 192 * mib,
			[]string{"last-lba:131038", "p2:start=4096,size=124928,"}, []string{"last-lba:393182", "p2:start=4096,size=387072,"}},
		{"a GPT whose last partition is swap", plainGPT, "swap", 64 * mib, 192 * mib,
			[]string{"last-lba:131038"}, []string{"last-lba:393182"}},
		{"a GPT of a size that is no MiB", plainGPT, "xfs", 64*mib + 5*sector, 4*gib + 3*sector,
			[]string{"last-lba:131043", "p2:start=4096,size=124928,"}, []string{"last-lba:8388577", "p2:start=4096,size=8382464,"}},
		{"a GPT with 4 entries", "table-length: 4\n" + plainGPT, "ext4", 64 * mib, 128 * mib,
			[]string{"last-lba:131069", "p2:start=4096,size=124928,"}, []string{"last-lba:262141", "p2:start=4096,size=256000,"}},
		{"the last primary of an MBR", "label: dos\nlabel-id: 0xdeadbe01\nstart=2048, size=65536, type=82\nstart=67584, size=32768, type=83, bootable\n", "ext3", 64 * mib, 20 * gib,
			[]string{"p2:start=67584,size=32768,"}, []string{"p2:start=67584,size=41875456,"}},
		{"the first entry, which is the last partition", "label: dos\nlabel-id: 0xdeadbe01\n1: start=67584, size=32768, type=83\n2: start=2048, size=65536, type=83\n", "ext4", 64 * mib, 128 * mib,
			[]string{"p1:start=67584,size=32768,"}, []string{"p1:start=67584,size=194560,"}},
		{"a logical one with its extended one", logical, "ext4", 64 * mib, 512 * mib,
			[]string{"p2:start=34816,size=96256,", "p6:start=59392,size=20480,"}, []string{"p2:start=34816,size=1013760,", "p6:start=59392,size=989184,"}},
		{"the only logical one", strings.Join(strings.SplitAfter(logical, "\n")[:5], ""), "xfs", 64 * mib, 512 * mib,
			[]string{"p2:start=34816,size=96256,", "p5:start=36864,size=20480,"}, []string{"p2:start=34816,size=1013760,", "p5:start=36864,size=1011712,"}},
		{"an MBR of 3 TiB", "label: dos\nlabel-id: 0xdeadbe01\nstart=2048, size=65536, type=83\n", "ext4", 64 * mib, 3 << 40,
			[]string{"p1:start=2048,size=65536,"}, []string{"p1:start=2048,size=4294963200,"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := parted(t, test.table, test.from, test.to)
			before := dump(t, f)
			top, whole := topology(t, f, test.to, test.fstype)
			r := top.PlanResize("disk0", test.from, whole)
			if err := top.GrowTable(f, r); err != nil {
				t.Fatal(err)
			}
			want := before
			for i, line := range want {
				for j := range test.was {
					line = strings.Replace(line, test.was[j], test.is[j], 1)
				}
				want[i] = line
			}
			if diff := cmp.Diff(want, dump(t, f)); diff != "" {
				t.Error("sfdisk --dump (-want +got):\n", diff)
			}
			if out, err := proc.Run(t.Context(), "sfdisk", "--verify", f.Name()); err != nil || !strings.Contains(string(out), "No errors detected") {
				t.Errorf("sfdisk --verify: %v\n%s", err, out)
			}
			again := top.PlanResize("disk0", test.to, whole)
			if again.Filesystem = nil; !again.Empty() { // its span is not read here
				t.Errorf("planning again gives %+v", again)
			}
		})
	}
}

// A GPT whose first copy is destroyed is one by its second copy.
func TestTheSecondCopyOfAGPTIsWhole(t *testing.T) {
	f := parted(t, "label: gpt\nstart=2048, size=65536, name=root\n", 64*mib, 192*mib)
	top, whole := topology(t, f, 192*mib, "ext4")
	if err := top.GrowTable(f, top.PlanResize("disk0", 64*mib, whole)); err != nil {
		t.Fatal(err)
	}
	want := dump(t, f)
	if _, err := f.WriteAt(make([]byte, sector), sector); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, dump(t, f)); diff != "" {
		t.Error("(-first +second):\n", diff)
	}
	old := make([]byte, 8)
	if _, err := f.ReadAt(old, 64*mib-sector); err != nil || !slices.Equal(old, make([]byte, 8)) {
		t.Errorf("the second copy is still where the disk ended: %q, %v", old, err)
	}
}

func TestATableThatIsNotThePlannedOneIsLeftAlone(t *testing.T) {
	f := parted(t, "label: gpt\nstart=2048, size=65536, name=root\n", 64*mib, 192*mib)
	top, whole := topology(t, f, 192*mib, "ext4")
	planned := top.PlanResize("disk0", 64*mib, whole)
	for name, change := range map[string]func(*Resize, *Topology){
		"another disk":          func(r *Resize, _ *Topology) { r.Disk = "disk1" },
		"another table":         func(r *Resize, _ *Topology) { r.ID = "00000000" },
		"another size":          func(r *Resize, _ *Topology) { r.To -= mib },
		"a partition less":      func(r *Resize, _ *Topology) { r.Partitions[0].Number = 9 },
		"a partition's ID":      func(r *Resize, _ *Topology) { r.Partitions[0].UUID = "" },
		"a partition's end":     func(r *Resize, _ *Topology) { r.Partitions[0].From += mib },
		"an end behind the end": func(r *Resize, _ *Topology) { r.Partitions[0].To = 300 * mib },
		"a smaller partition":   func(r *Resize, _ *Topology) { r.Partitions[0].To = 2 * mib },
		"a table of no GPT":     func(_ *Resize, t *Topology) { t.Disks[0].Usable = 0 },
		"a table since changed": func(_ *Resize, t *Topology) {
			t.Disks[0].Partitions[0].Start -= mib
			t.Disks[0].Partitions[0].Size += mib
		},
	} {
		r, other := planned, top
		r.Partitions, other.Disks = slices.Clone(r.Partitions), slices.Clone(top.Disks)
		other.Disks[0].Partitions = slices.Clone(top.Disks[0].Partitions)
		change(&r, &other)
		before := dump(t, f)
		if err := other.GrowTable(f, r); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: error %v, want %v", name, err, ErrConflict)
		}
		if diff := cmp.Diff(before, dump(t, f)); diff != "" {
			t.Errorf("%s: the table was changed: %s", name, diff)
		}
	}
}
