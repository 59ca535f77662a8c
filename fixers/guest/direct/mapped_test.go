package direct

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// needMapper skips a test where the kernel has no device-mapper; that of
// TestAFullKernelShowsAll has.
func needMapper(t *testing.T) *os.File {
	t.Helper()
	needVolumes(t)
	control, err := openMapper()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { control.Close() })
	return control
}

// requireNoneMapped fails the test if a device of ours is left.
func requireNoneMapped(t *testing.T, control *os.File) {
	t.Helper()
	names, err := listMapped(control)
	must(t, err)
	for _, name := range names {
		if strings.HasPrefix(name, "hyper2kvm-") {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestAVolumeInPiecesIsAnEngine(t *testing.T) {
	needMapper(t)
	disks := guesttest.Volumes(t)
	parts := [][]part{{{66 << 20, 8 << 20}, {74 << 20, 8 << 20}}, {{17 << 20, 8 << 20}, {25 << 20, 8 << 20}}}
	before := [][]byte{outside(t, disks[0], parts[0]...), outside(t, disks[1], parts[1]...)}
	g := openDisks(t, disks...)
	must(t, g.Mount("web-vg/both", "/"))
	guesttest.Run(t, func(t *testing.T) guesttest.Disk {
		must(t, guesttest.Clear(g))
		return suite{g}
	})
	must(t, guesttest.Clear(g))
	must(t, g.Mkdir("/grown", 0o755))
	must(t, g.Mount("web-vg/grown", "/grown"))
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // over many stripes
	must(t, g.WriteFile("/large", 0, large))
	must(t, g.WriteFile("/grown/large", 0, large))
	must(t, g.Close())
	requireNothingLeft(t, disks)
	for i := range before {
		if !bytes.Equal(before[i], outside(t, disks[i], parts[i]...)) {
			t.Errorf("disk%d: bytes outside of the volumes were written", i)
		}
	}
	t.Run("AsItsBytesLie", func(t *testing.T) { readPieces(t, disks, large) })
}

// readPieces puts the volumes together by our own reader, and reads them as disks.
func readPieces(t *testing.T, disks []string, want []byte) {
	g, err := readDisks(t.Context(), opened(t, disks), nil, slog.New(slog.DiscardHandler))
	must(t, err)
	for _, name := range []string{"web-vg/both", "web-vg/grown"} {
		v, _ := g.volume(name)
		data := make([]byte, v.Size)
		_, err := pieces{g, v}.ReadAt(data, 0)
		must(t, err)
		alone := t.TempDir() + "/volume"
		must(t, os.WriteFile(alone, data, 0o600))
		volume := openDisks(t, alone)
		must(t, volume.Mount("disk0", "/"))
		if got, err := volume.ReadFile("/large", 8<<20); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: ReadFile = %d bytes, %v", name, len(got), err)
		}
		must(t, volume.Close())
	}
	must(t, g.closeDisks())
}

func TestWithoutDeviceMapperAVolumeInPiecesIsUnsupported(t *testing.T) {
	needVolumes(t)
	if control, err := openMapper(); err == nil {
		must(t, control.Close())
		t.Skip("this kernel has device-mapper")
	}
	disks := guesttest.Volumes(t)
	g := openDisks(t, disks...)
	err := g.Mount("web-vg/both", "/")
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "device-mapper does not work here") {
		t.Errorf("Mount = %v, want ErrUnsupported with the reason", err)
	}
	must(t, g.Close())
	requireNothingLeft(t, disks)
}

func TestWhatADeadAgentLeftInDeviceMapperIsSwept(t *testing.T) {
	control := needMapper(t)
	space, err := namespace()
	must(t, err)
	dead, alive := mappedName(space, deadPid(t), 1), mappedName(space, os.Getpid(), 99)
	for _, name := range []string{dead, alive} {
		_, err := createMapped(control, name)
		must(t, err)
	}
	second, err := openMapper()
	must(t, err)
	must(t, second.Close())
	for name, want := range map[string]bool{dead: false, alive: true} {
		if there, err := isMapped(control, name); there != want || err != nil {
			t.Errorf("%s is there: %v, %v", name, there, err)
		}
	}
	must(t, removeMapped(control, alive))
	must(t, removeMapped(control, alive)) // gone already
}

// deadPid is the ID of a process that ran and is gone.
func deadPid(t *testing.T) int {
	t.Helper()
	p, err := os.StartProcess("/proc/self/exe", []string{"victim", "-test.run=^$"}, &os.ProcAttr{})
	must(t, err)
	_, err = p.Wait()
	must(t, err)
	return p.Pid
}

func TestOnlyDevicesOfTheDeadAreLeft(t *testing.T) {
	dead := deadPid(t)
	for name, want := range map[string]bool{
		mappedName(7, dead, 1):                  true,
		mappedName(7, os.Getpid(), 1):           false,
		mappedName(8, dead, 1):                  false,
		mappedName(7, 0, 1):                     false,
		mappedName(7, dead, 1) + "x":            false,
		fmt.Sprintf("x-hyper2kvm-7-%d-1", dead): false,
		"web--vg-root":                          false,
		"hyper2kvm-7-99999999999999999999-1":    false,
	} {
		if got := isLeft(name, 7); got != want {
			t.Errorf("isLeft(%q) = %v", name, got)
		}
	}
}

func TestDevicesOfWhoEndedAndIsNotAskedForAreLeft(t *testing.T) {
	p, err := os.StartProcess("/proc/self/exe", []string{"victim", "-test.run=^$"}, &os.ProcAttr{})
	must(t, err)
	name := mappedName(7, p.Pid, 1)
	for deadline := time.Now().Add(10 * time.Second); !isLeft(name, 7); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the device of a process that has ended is not left")
		}
	}
	must(t, unix.Kill(p.Pid, 0)) // it has its ID
	_, err = p.Wait()
	must(t, err)
}

func TestATableSaysWhereAVolumeLies(t *testing.T) {
	v := guest.Volume{Segments: []guest.Segment{
		{Size: 8 << 20, On: []guest.Place{{Device: "disk1", Start: 25 << 20}}},
		{Size: 16 << 20, Chunk: 64 << 10, On: []guest.Place{{Device: "disk0p1", Start: 65 << 20}, {Device: "disk1", Start: 17 << 20}}},
		{Size: 4 << 20, On: []guest.Place{{Device: "disk0p1", Start: 9 << 20}}},
		{Size: 64 << 10, Copies: true, On: []guest.Place{{Device: "disk0p1", Start: 80 << 20}, {Device: "disk1", Start: 70 << 20}}},
	}}
	spans := spansOf(v)
	want := map[string]span{"disk0p1": {start: 9 << 20, end: 80<<20 + 64<<10}, "disk1": {start: 17 << 20, end: 70<<20 + 64<<10}}
	if diff := cmp.Diff(want, spans, cmp.AllowUnexported(span{})); diff != "" {
		t.Error("spansOf (-want +got):\n", diff)
	}
	spans["disk0p1"] = span{start: 9 << 20, number: "7:3"}
	spans["disk1"] = span{start: 17 << 20, number: "7:4"}
	table := []target{
		{0, 16384, "linear", "7:4 16384"},
		{16384, 32768, "striped", "2 128 7:3 114688 7:4 0"},
		{49152, 8192, "linear", "7:3 0"},
		{57344, 128, "mirror", "core 2 128 nosync 2 7:3 145408 7:4 108544"},
	}
	if got := tableOf(v, spans); !slices.Equal(got, table) {
		t.Errorf("tableOf = %v, want %v", got, table)
	}
}

func TestATableIsEncodedAsTheKernelReadsIt(t *testing.T) {
	ne := binary.NativeEndian
	entry := func(start, size uint64, next uint32, kind, params string) []byte {
		b := ne.AppendUint32(ne.AppendUint32(ne.AppendUint64(ne.AppendUint64(nil, start), size), 0), next)
		return append(append(b, kind+strings.Repeat("\x00", 16-len(kind))...), params...)
	}
	want := append(entry(0, 8, 48, "linear", "7:3 100\x00"), entry(8, 16, 56, "striped", "7:4 1000\x00\x00\x00\x00\x00\x00\x00\x00")...)
	if got := encodeTable([]target{{0, 8, "linear", "7:3 100"}, {8, 16, "striped", "7:4 1000"}}); !bytes.Equal(got, want) {
		t.Errorf("encodeTable = %q, want %q", got, want)
	}
}

func TestNamesOfDevicesAreDecoded(t *testing.T) {
	ne := binary.NativeEndian
	entry := func(dev uint64, next uint32, name string) []byte {
		b := append(ne.AppendUint32(ne.AppendUint64(nil, dev), next), name...)
		return append(b, make([]byte, max(0, int(next)-len(b)))...)
	}
	two := append(entry(1, 24, "one"), append(entry(2, 0, "two\x00"), 9, 9)...)
	if got := decodeNames(two); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("decodeNames = %q", got)
	}
	for name, data := range map[string][]byte{"nothing": nil, "none": make([]byte, 64)} {
		if got := decodeNames(data); len(got) > 0 {
			t.Errorf("%s: decodeNames = %q", name, got)
		}
	}
	if got := decodeNames(entry(1, 1<<20, "far")); !slices.Equal(got, []string{"far"}) {
		t.Errorf("an entry behind the end: %q", got)
	}
}

// TestDmsetupSeesOurTable compares with LVM's own tool.
func TestDmsetupSeesOurTable(t *testing.T) {
	control := needMapper(t)
	guesttest.Need(t, "dmsetup")
	g := openDisks(t, guesttest.Volumes(t)...)
	must(t, g.Mount("web-vg/both", "/"))
	names, err := listMapped(control)
	must(t, err)
	if len(names) != 1 {
		t.Fatalf("devices of device-mapper: %q, want one", names)
	}
	out, err := proc.Run(t.Context(), "dmsetup", "table", names[0])
	must(t, err)
	if !strings.HasPrefix(string(out), "0 32768 striped 2 128 7:") {
		t.Errorf("dmsetup says %q", out)
	}
	must(t, g.Close())
	requireNoneMapped(t, control)
}
