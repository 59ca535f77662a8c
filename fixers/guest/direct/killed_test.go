package direct

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/disk/loop"
)

// requireNothingLeft fails the test if a disk is still behind a loop device or
// mounted. It waits a moment: the kernel tears a killed process down by itself.
func requireNothingLeft(t *testing.T, disks []string) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		if left = attached(t, disks); len(left) == 0 {
			break
		}
	}
	for _, device := range left {
		t.Errorf("%s is still attached", device)
	}
	if control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0); err == nil { // nothing is swept
		requireNoneMapped(t, control)
		must(t, control.Close())
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, os.TempDir()+"/root") || strings.Contains(line, "/dev/loop") && strings.Contains(line, t.Name()) {
			t.Errorf("still mounted: %s", line)
		}
	}
}

// attached are the loop devices over these disks.
func attached(t *testing.T, disks []string) []string {
	t.Helper()
	var known []loop.File
	for _, name := range disks {
		f, err := os.Open(name)
		must(t, err)
		file, err := loop.FileOf(f)
		must(t, errors.Join(err, f.Close()))
		known = append(known, file)
	}
	found, err := loop.Over(known)
	must(t, err)
	return found
}

// opened are disks' files, until the test ends.
func opened(t *testing.T, disks []string) (files []*os.File) {
	t.Helper()
	for _, name := range disks {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

// sweep does what the next agent does, until nothing is left to do: the killed one's
// processes are told of its end by the kernel, each in turn.
func sweep(t *testing.T, disks []string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		control, err := openMapper()
		if err != nil {
			return // the kernel has no device-mapper
		}
		names, err := listMapped(control)
		must(t, errors.Join(err, control.Close()))
		if len(names) == 0 && len(attached(t, disks)) == 0 {
			return
		}
	}
}

// victimDisks names the environment variable that makes the test binary open
// disks, mount, write and wait to be killed.
const victimDisks = "DIRECT_TEST_VICTIM"

func needVictim(t *testing.T) []string {
	t.Helper()
	disks := os.Getenv(victimDisks)
	if disks == "" {
		t.Skip("only run by the tests of killed agents")
	}
	return strings.Split(disks, ":")
}

// mountVictim mounts file systems on every kind of device and writes to them.
func mountVictim(t *testing.T, disks []string) *shown {
	t.Helper()
	g, err := Open(t.Context(), disks, guesttest.Keys(), slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, g.Mount("disk0p1", "/"))
	all := [][2]string{{guesttest.XFSDevice, "/data"}, {"web-vg/root", "/volume"}}
	if control, err := openMapper(); err == nil {
		must(t, control.Close())
		all = append(all, [][2]string{{"web-vg/both", "/pieces"}, {"crypt-vg/root", "/locked"}, {"md-vg/data", "/mirror"}}...)
	}
	for _, m := range all {
		if err := g.Mkdir(m[1], 0o755); !errors.Is(err, fs.ErrExist) {
			must(t, err)
		}
		must(t, g.Mount(m[0], m[1]))
		must(t, g.WriteFile(m[1]+"/file", 0, []byte("written and not synced")))
	}
	return g.(*shown)
}

func TestVictim(t *testing.T) {
	mountVictim(t, needVictim(t))
	os.Stdout.WriteString("ready\n")
	select {}
}

func TestBusyVictim(t *testing.T) {
	disks := needVictim(t)
	os.Stdout.WriteString("ready\n")
	for {
		must(t, mountVictim(t, disks).Close())
	}
}

// victim is a process to be killed, and what it says.
type victim struct {
	*os.Process
	out *os.File
}

// startVictim returns when the victim is ready.
func startVictim(t *testing.T, test string, disks []string) victim {
	t.Helper()
	out, in, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { out.Close() })
	process, err := os.StartProcess("/proc/self/exe", []string{"victim", "-test.run=^" + test + "$", "-test.v"}, &os.ProcAttr{
		Env:   append(os.Environ(), victimDisks+"="+strings.Join(disks, ":")),
		Files: []*os.File{nil, in, in},
	})
	must(t, err)
	must(t, in.Close())
	var said strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(said.String(), "ready\n"); {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the victim did not get ready: %v: %s", err, said.String())
		}
		said.Write(buf[:n])
	}
	return victim{process, out}
}

func (v victim) kill(t *testing.T) {
	t.Helper()
	must(t, v.Signal(syscall.SIGKILL))
	state, err := v.Wait()
	must(t, err)
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		said, err := io.ReadAll(v.out)
		must(t, err)
		t.Errorf("the victim ended by itself: %v: %s", state, said)
	}
}

// requireShown fails the test if what a victim had mounted cannot be mounted.
func requireShown(t *testing.T, disks []string) {
	t.Helper()
	must(t, mountVictim(t, disks).Close()) // the journals are replayed
	requireNothingLeft(t, disks)
}

func victims(t *testing.T) []string {
	t.Helper()
	needLocked(t)
	return slices.Concat(guesttest.Disks(t), guesttest.Volumes(t), guesttest.Locked(t))
}

func TestAKilledAgentLeavesNothingMounted(t *testing.T) {
	disks := victims(t)
	victim := startVictim(t, "TestVictim", disks)
	want := 3
	if control, err := openMapper(); err == nil {
		must(t, control.Close())
		want += 2 // under a volume in two pieces
		want += 2 // under a mirror
		want += 5 // under what is encrypted, of which one lies on a mirror
	}
	if n := len(attached(t, disks)); n != want {
		t.Errorf("%d loop devices while it lives, want %d", n, want)
	}
	victim.kill(t)
	requireNothingLeft(t, disks)
	requireShown(t, disks)
}

// TestAnAgentMayBeKilledAtAnyMoment kills agents that mount and unmount all the
// time, each a little later than the one before, until one had the time for all.
func TestAnAgentMayBeKilledAtAnyMoment(t *testing.T) {
	disks := victims(t)
	began := time.Now()
	requireShown(t, disks)
	const kills = 12
	step := time.Since(began) * 5 / 4 / kills
	for i := range kills {
		victim := startVictim(t, "TestBusyVictim", disks)
		<-time.After(time.Duration(i) * step)
		victim.kill(t)
		sweep(t, disks)
		requireNothingLeft(t, disks)
	}
	requireShown(t, disks)
}
