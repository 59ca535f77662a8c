package direct

import (
	"bufio"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest/guesttest"
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
	if control, err := openMapper(); err == nil {
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
	inodes := map[uint64]bool{}
	for _, name := range disks {
		var st unix.Stat_t
		must(t, unix.Stat(name, &st))
		inodes[st.Ino] = true
	}
	devices, err := filepath.Glob("/dev/loop[0-9]*")
	must(t, err)
	var found []string
	for _, device := range devices {
		f, err := os.Open(device)
		must(t, err)
		info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		if err == nil && inodes[info.Inode] {
			found = append(found, device)
		}
		must(t, f.Close())
	}
	return found
}

// victimDisks names the environment variable that makes the test binary open
// disks, mount, write and wait to be killed.
const victimDisks = "DIRECT_TEST_VICTIM"

func TestVictim(t *testing.T) {
	disks := os.Getenv(victimDisks)
	if disks == "" {
		t.Skip("only run by TestAKilledAgentLeavesNothingMounted")
	}
	g, err := Open(t.Context(), strings.Split(disks, ":"), slog.New(slog.DiscardHandler))
	must(t, err)
	must(t, g.Mount("disk0p1", "/"))
	must(t, g.Mkdir("/data", 0o755))
	must(t, g.Mount(guesttest.XFSDevice, "/data"))
	must(t, g.WriteFile("/data/file", 0, []byte("written and not synced")))
	must(t, g.Mkdir("/volume", 0o755))
	must(t, g.Mount("web-vg/root", "/volume"))
	must(t, g.WriteFile("/volume/file", 0, []byte("written and not synced")))
	must(t, g.Mkdir("/pieces", 0o755))
	err = g.Mount("web-vg/both", "/pieces")
	if err != nil && !errors.Is(err, ErrUnsupported) { // the kernel may have no device-mapper
		t.Fatal(err)
	}
	os.Stdout.WriteString("ready\n")
	select {}
}

func TestAKilledAgentLeavesNothingMounted(t *testing.T) {
	needVolumes(t)
	disks := append(guesttest.Disks(t), guesttest.Volumes(t)...)
	out, in, err := os.Pipe()
	must(t, err)
	defer out.Close()
	victim, err := os.StartProcess("/proc/self/exe", []string{"victim", "-test.run=^TestVictim$", "-test.v"}, &os.ProcAttr{
		Env:   append(os.Environ(), victimDisks+"="+strings.Join(disks, ":")),
		Files: []*os.File{nil, in, in},
	})
	must(t, err)
	must(t, in.Close())
	ready := false
	var said strings.Builder
	for lines := bufio.NewScanner(out); !ready && lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		ready = lines.Text() == "ready"
	}
	if !ready {
		t.Fatalf("the victim did not get ready: %s", said.String())
	}
	want := 3
	if control, err := openMapper(); err == nil {
		must(t, control.Close())
		want += 2 // under a volume in two pieces
	}
	if n := len(attached(t, disks)); n != want {
		t.Errorf("%d loop devices while it lives, want %d", n, want)
	}
	must(t, victim.Signal(syscall.SIGKILL))
	state, err := victim.Wait()
	must(t, err)
	if state.Success() {
		t.Error("the victim was not killed")
	}
	requireNothingLeft(t, disks)

	g := openDisks(t, disks...) // the journals are replayed
	must(t, g.Mount("disk0p1", "/"))
	must(t, g.Mount(guesttest.XFSDevice, "/data"))
	must(t, g.Mount("web-vg/root", "/volume"))
	must(t, g.Close())
	requireNothingLeft(t, disks)
}
