package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// prisonerPart is a process like that of Serve, which tries to get out.
const prisonerPart = "prisoner"

func TestMain(m *testing.M) {
	if os.Args[0] == prisonerPart {
		if err := prisoner(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// otherThread runs functions on a thread that is there before the process gives up
// anything.
func otherThread() func(func() error) error {
	todo, done := make(chan func() error), make(chan error)
	ready := make(chan bool)
	go func() {
		runtime.LockOSThread()
		ready <- true
		for f := range todo {
			done <- f()
		}
	}()
	<-ready
	return func(f func() error) error {
		todo <- f
		return <-done
	}
}

// prisoner tells how each of the ways out ended, after it has seen its own status. It
// tries them on a thread that did not give up its rights itself.
func prisoner(folder string) error {
	runtime.LockOSThread()
	elsewhere := otherThread()
	outside, err := os.Open(".") // closed in Serve, which has none
	if err != nil {
		return err
	}
	var status *os.File
	if err := elsewhere(func() (err error) { status, err = os.Open("/proc/thread-self/status"); return err }); err != nil {
		return err
	}
	if err := confine(folder); err != nil {
		return err
	}
	told := map[string]string{}
	text := make([]byte, 8<<10)
	n, err := status.Read(text)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text[:n])) {
		key, value, _ := strings.Cut(line, ":")
		told["status "+key] = strings.TrimSpace(value)
	}
	for name, try := range escapes(int(outside.Fd())) {
		told[name] = fmt.Sprint(elsewhere(try))
	}
	return json.NewEncoder(os.Stdout).Encode(told)
}

// escapes are ways out of the folder, or to more rights.
func escapes(outside int) map[string]func() error {
	raw := func(nr uintptr, args ...uintptr) func() error {
		return func() error {
			args = append(args, 0, 0, 0, 0, 0, 0)
			if _, _, errno := unix.RawSyscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
				return errno
			}
			return nil
		}
	}
	return map[string]func() error{
		"read a file of the host's": func() error { _, err := OpenIn(unix.AT_FDCWD, "/etc/passwd", unix.O_RDONLY, 0); return err },
		"climb":                     func() error { _, err := OpenIn(unix.AT_FDCWD, "../../etc/passwd", unix.O_RDONLY, 0); return err },
		"open":                      func() error { _, err := unix.Open("/", unix.O_RDONLY, 0); return err },
		"chroot again":              func() error { return unix.Chroot("/") },
		"change folder":             func() error { return unix.Fchdir(outside) },
		"mount":                     func() error { return unix.Mount("tmpfs", "/", "tmpfs", 0, "") },
		"mount by descriptor":       func() error { _, err := unix.OpenTree(unix.AT_FDCWD, "/", 0); return err },
		"new namespace":             func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"new namespace by clone":    raw(unix.SYS_CLONE, unix.CLONE_NEWNS|uintptr(unix.SIGCHLD)),
		"enter a namespace":         func() error { return unix.Setns(outside, 0) },
		"start a program":           func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
		"trace":                     func() error { return unix.PtraceAttach(unix.Getppid()) },
		"kill":                      func() error { return unix.Kill(1, 0) },
		"socket":                    func() error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); return err },
		"device node":               func() error { return unix.Mknod("/node", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))) },
		"hard link":                 func() error { return unix.Link("/inside", "/second") },
		"label":                     func() error { return unix.Setxattr("/inside", "security.selinux", []byte("x"), 0) },
		"load a module":             raw(unix.SYS_FINIT_MODULE, uintptr(outside)),
		"bpf":                       raw(unix.SYS_BPF),
		"io_uring":                  raw(unix.SYS_IO_URING_SETUP, 1),
		"open by handle":            raw(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(outside)),
		"other user":                func() error { return unix.Setresuid(1, 1, 1) },
		"kernel's log":              func() error { _, err := unix.Klogctl(10, nil); return err },
		"write inside": func() error {
			fd, err := OpenIn(unix.AT_FDCWD, "/inside", unix.O_WRONLY, 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.Fchownat(fd, "", 1000, 1000, unix.AT_EMPTY_PATH), unix.Ftruncate(fd, 7), unix.Close(fd))
		},
	}
}

func TestTheProcessCanDoNothingElse(t *testing.T) {
	guesttest.Need(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "inside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	s := Service(folder, nil, nil, nil)
	s.Name, s.Files, s.Stdout = prisonerPart, nil, &said
	server, err := proc.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	if err := server.Err(); err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	if err := json.Unmarshal(said.Bytes(), &told); err != nil {
		t.Fatalf("%v: %q", err, &said)
	}
	denied := []string{unix.EPERM.Error(), unix.EACCES.Error()}
	for name := range escapes(-1) {
		switch got := told[name]; {
		case name == "write inside" && got != "<nil>":
			t.Errorf("%s: %s", name, got)
		case name == "read a file of the host's" || name == "climb":
			if got != unix.ENOENT.Error() {
				t.Errorf("%s: %s", name, got)
			}
		case name != "write inside" && !slices.Contains(denied, got):
			t.Errorf("%s: %s, want %q", name, got, denied[0])
		}
	}
	mask := uint64(0)
	for _, c := range capabilities {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); has == 1 && err == nil { // a container has fewer
			mask |= 1 << c
		}
	}
	for key, want := range map[string]string{"CapEff": fmt.Sprintf("%016x", mask), "CapBnd": fmt.Sprintf("%016x", mask), "CapPrm": fmt.Sprintf("%016x", mask), "NoNewPrivs": "1", "Seccomp": "2"} {
		if got := told["status "+key]; got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}

// keeper serves a keeper for the test, of all files in a folder.
func keeper(t *testing.T, may func(int) error) Remote {
	t.Helper()
	ours, file, err := KeeperPair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := keeperSocket(file)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Keeper{May: may}.Serve(ours) }()
	t.Cleanup(func() {
		if err := errors.Join(theirs.Close(), <-done, ours.Close()); err != nil {
			t.Error(err)
		}
	})
	return NewRemote(theirs)
}

func TestAttributesAreKeptForOthers(t *testing.T) {
	guesttest.Need(t)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(name, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r := keeper(t, func(int) error { return nil })
	for _, value := range [][]byte{{}, {0, 255, 10}, bytes.Repeat([]byte("x"), 2000)} {
		if err := r.Set(fd, "trusted.test", value); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Get(fd, "trusted.test"); err != nil || !bytes.Equal(got, value) {
			t.Errorf("Get = %q, %v, want %q", got, err, value)
		}
	}
	if names, err := r.List(fd); err != nil || !slices.Contains(names, "trusted.test") {
		t.Errorf("List = %q, %v", names, err)
	}
	if err := r.Remove(fd, "trusted.test"); err != nil {
		t.Error(err)
	}
	if _, err := r.Get(fd, "trusted.test"); !errors.Is(err, unix.ENODATA) {
		t.Errorf("Get of nothing: %v", err)
	}
	for _, err := range []error{r.Set(fd, strings.Repeat("n", 300), nil), r.Set(fd, "user.large", make([]byte, maxXattr+1))} {
		if !errors.Is(err, unix.ERANGE) {
			t.Errorf("too long: %v", err)
		}
	}
}

func TestAttributesOfOtherFilesAreNotKept(t *testing.T) {
	guesttest.Need(t)
	r := keeper(t, func(int) error { return unix.EPERM })
	fd, err := unix.Open(t.TempDir(), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := r.Set(fd, "trusted.test", nil); !errors.Is(err, unix.EPERM) {
		t.Errorf("Set: %v", err)
	}
}

// TestAKeeperSurvivesAnything sends packets that no Remote sends, and sees that each is
// answered by an error and that no descriptor stays open.
func TestAKeeperSurvivesAnything(t *testing.T) {
	r := keeper(t, func(int) error { return nil })
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := open()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	one, two := unix.UnixRights(int(null.Fd())), unix.UnixRights(int(null.Fd()), int(null.Fd()))
	for _, packet := range [][]byte{{listAttrs}, {getAttr, 255, 'x'}, {99, 0}, bytes.Repeat([]byte{setAttr}, 1000)} {
		for _, rights := range [][]byte{nil, one, two} {
			if got := exchange(t, r.socket, packet, rights); len(got) != answer || bytes.Equal(got, make([]byte, answer)) {
				t.Errorf("packet %v with rights %v is answered by %v", packet[:1], rights, got)
			}
		}
	}
	if err := null.Close(); err != nil {
		t.Error(err)
	}
	if after := open(); after != before {
		t.Errorf("%d descriptors are open, before it were %d", after, before)
	}
}

func exchange(t *testing.T, socket *net.UnixConn, packet, rights []byte) []byte {
	t.Helper()
	if _, _, err := socket.WriteMsgUnix(packet, rights, nil); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, maxPacket)
	n, err := socket.Read(said)
	if err != nil {
		t.Fatal(err)
	}
	return said[:n]
}

// TestNeitherSideTakesTheWindowAway: who shrinks memory that another has mapped ends it.
func TestNeitherSideTakesTheWindowAway(t *testing.T) {
	w, f, err := NewWindow()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int64{0, windowSize / 2, 2 * windowSize} {
		if err := f.Truncate(size); !errors.Is(err, unix.EPERM) {
			t.Errorf("Truncate to %d: error %v, want %v", size, err, unix.EPERM)
		}
	}
	other, err := openWindow(f)
	if err != nil {
		t.Fatal(err)
	}
	copy(w.bytes, "seen by both")
	if !bytes.HasPrefix(other.bytes, []byte("seen by both")) {
		t.Error("the two sides see different memory")
	}
	if err := errors.Join(w.Close(), other.Close(), w.Close()); err != nil {
		t.Error(err)
	}
}
