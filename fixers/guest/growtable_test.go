package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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
			r := top.PlanResize("disk0", Enlarged{From: test.from, Checked: whole})
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
			again := top.PlanResize("disk0", Enlarged{From: test.to, Checked: whole})
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
	if err := top.GrowTable(f, top.PlanResize("disk0", Enlarged{From: 64 * mib, Checked: whole})); err != nil {
		t.Fatal(err)
	}
	want := dump(t, f)
	if _, err := f.WriteAt(make([]byte, 33*sector), sector); err != nil {
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
	planned := top.PlanResize("disk0", Enlarged{From: 64 * mib, Checked: whole})
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

// What the kernel makes nothing of, firmware and other tools read.
func TestOldAddressesAndLengthsAreTrueToo(t *testing.T) {
	entry := func(f *os.File, sectorAt int64, n int) []byte {
		b := make([]byte, 16)
		if _, err := f.ReadAt(b, sectorAt*sector+446+16*int64(n)); err != nil {
			t.Fatal(err)
		}
		return b
	}
	grown := func(table, fstype string, to int64) *os.File {
		f := parted(t, table, 64*mib, to)
		top, whole := topology(t, f, to, fstype)
		if err := top.GrowTable(f, top.PlanResize("disk0", Enlarged{From: 64 * mib, Checked: whole})); err != nil {
			t.Fatal(err)
		}
		return f
	}
	far := []byte{0xfe, 0xff, 0xff}
	gpt := grown("label: gpt\nstart=2048, size=65536\n", "ext4", 192*mib)
	large := grown("label: gpt\nstart=2048, size=65536\n", "ext4", 3<<40)
	logical := grown("label: dos\n1: start=2048, size=129024, type=5\n5: start=4096, size=20480, type=82\n6: start=26624, size=20480, type=83\n", "xfs", 192*mib)
	primary := grown("label: dos\nstart=2048, size=65536, type=83\n", "xfs", 20*gib)
	for _, test := range []struct {
		name    string
		entry   []byte
		sectors uint32
		end     []byte // 393215 is cylinder 24, head 121, sector 33
	}{
		{"the protective partition", entry(gpt, 0, 0), 393215, []byte{121, 33, 24}},
		{"one that cannot say how long it is", entry(large, 0, 0), 1<<32 - 1, far},
		{"the extended partition", entry(logical, 0, 0), 391168, []byte{121, 33, 24}},
		{"the link to the last logical one", entry(logical, 2048, 1), 393216 - 24576, []byte{121, 33, 24}},
		{"the last logical one", entry(logical, 24576, 0), 393216 - 26624, []byte{121, 33, 24}},
		{"a partition over the end of all cylinders", entry(primary, 0, 0), 20*gib/sector - 2048, far},
	} {
		if n := binary.LittleEndian.Uint32(test.entry[12:]); n != test.sectors || !bytes.Equal(test.entry[5:8], test.end) {
			t.Errorf("%s: %d sectors to %v, want %d to %v", test.name, n, test.entry[5:8], test.sectors, test.end)
		}
	}
}

func TestAGPTThatIsNotPlainIsNotExtended(t *testing.T) {
	le := binary.LittleEndian
	const last = testDiskSize/sector - 1
	placed := func(usable, backup uint64) testDisk {
		return gpt(func(h, _ []byte) { le.PutUint64(h[48:], usable); le.PutUint64(h[32:], backup) })
	}
	mixed := placed(last-33, last)
	mixed[0] = link([3]uint32{0xee, 1, 2047}, [3]uint32{0x83, 2048, 2048})
	for name, d := range map[string]testDisk{
		"mixed with an MBR": mixed, "no second copy": placed(last-33, 0), "one in front of the end": placed(last-33, last-40),
		"one behind the disk": placed(last-33, last+1), "no end of the room": placed(0, last), "an end that cannot be": placed(1<<64-1, last),
	} {
		if disk, err := ReadTable(d, testDiskSize); err != nil || disk.Usable != 0 || disk.Backup != 0 || len(disk.Partitions) != 1 {
			t.Errorf("%s: %+v, %v", name, disk, err)
		}
	}
	if disk, err := ReadTable(placed(last-33, last), testDiskSize); err != nil || disk.Usable != (last-32)*sector || disk.Backup != last*sector {
		t.Errorf("a plain one: %+v, %v", disk, err)
	}
}

// WriteAt implements Bytes, for whole sectors.
func (d testDisk) WriteAt(p []byte, off int64) (int, error) {
	for at := int64(0); at < int64(len(p)); at += sector {
		d[(off+at)/sector] = bytes.Clone(p[at : at+sector])
	}
	return len(p), nil
}

// Whatever the tables say, planning and doing it ends in the planned table or in
// an error.
func FuzzGrowTable(f *testing.F) {
	f.Add(link([3]uint32{0x0f, 1, 9000}), link([3]uint32{0x83, 10, 20}, [3]uint32{5, 100, 200}), int64(1000))
	f.Add(link([3]uint32{0x83, 1, 9000}), []byte{}, int64(9001))
	d := gpt(func(h, _ []byte) {
		binary.LittleEndian.PutUint64(h[48:], 8000)
		binary.LittleEndian.PutUint64(h[32:], 9000)
	})
	f.Add(d[0], d[1], int64(9001))
	f.Fuzz(func(t *testing.T, first, second []byte, was int64) {
		d := testDisk{0: first[:min(len(first), sector)], 1: second[:min(len(second), sector)]}
		for i := 2; i < 34; i++ {
			d[int64(i)] = gpt(func(_, _ []byte) {})[int64(i)]
		}
		disk, err := ReadTable(d, testDiskSize)
		if err != nil {
			return
		}
		disk.Name = "disk0"
		top := Topology{Disks: []Disk{disk}}
		for i := range disk.Partitions {
			p := &disk.Partitions[i]
			p.Name = fmt.Sprint("disk0p", p.Number)
			top.Filesystems = append(top.Filesystems, Filesystem{Device: p.Name, Type: LVMMember, Size: p.Size})
		}
		r := top.PlanResize("disk0", Enlarged{From: was})
		if err := top.GrowTable(d, r); err != nil {
			return
		}
		if again := top.PlanResize("disk0", Enlarged{From: r.To}); !again.Empty() {
			t.Errorf("planned %+v, and again %+v", r, again)
		}
	})
}
