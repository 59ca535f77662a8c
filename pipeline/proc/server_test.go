package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv tells the test binary to be one of the programs that tests need.
const roleEnv = "HYPER2KVM_TEST_PROC"

func TestMain(m *testing.M) {
	if played, err := playPart(); played {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	role, argument, _ := strings.Cut(os.Getenv(roleEnv), " ")
	switch role {
	case "":
		os.Exit(m.Run())
	case "serve":
		fmt.Fprintln(os.Stderr, serve(argument))
	case "claim":
		fmt.Fprintln(os.Stderr, claimed(argument))
	case "parent":
		fmt.Fprintln(os.Stderr, parent(argument))
	case "chroot":
		fmt.Println(inChroot(argument))
	}
	os.Exit(1)
}

// serve answers on a socket until it is killed.
func serve(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "serving")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		conn.Close()
	}
}

// parent starts a server, tells its process ID, and stays until it is killed.
func parent(socket string) error {
	s, err := Start(context.Background(), service(socket))
	if err != nil {
		return err
	}
	fmt.Println(s.Pid())
	<-s.Done()
	return s.Err()
}

// inChroot starts a program with private mounts in a folder that is no mount point.
func inChroot(folder string) error {
	if err := errors.Join(os.Chdir(folder), syscall.Chroot(".")); err != nil {
		return err
	}
	c := bash("exit 0")
	c.Stdin, c.Stdout = strings.NewReader(""), io.Discard // there is no /dev/null
	_, err := Start(context.Background(), Service{Command: c, NoSocket: true, PrivateMounts: true})
	return err
}

// service is the test binary as a server, run by a program of the table.
func service(socket string) Service {
	c := bash(`exec "$0"`, self())
	c.Env = []string{roleEnv + "=serve " + socket}
	return Service{Command: c, Socket: socket}
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err) // Linux without /proc
	}
	return path
}

func socket(t *testing.T) string {
	t.Helper()
	dir, err := PrivateDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s.sock")
}

func number(t *testing.T, digits string) int {
	t.Helper()
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ended waits for the end of a process that need not be a child of this one.
func ended(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for deadline := time.Now().Add(10 * time.Second); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			t.Fatal(err)
		case n == 1:
			return
		case time.Now().After(deadline):
			t.Fatalf("process %d lives on", pid)
		}
	}
}

func TestAServerIsReadyWhenItsSocketAnswers(t *testing.T) {
	at := socket(t)
	s, err := Start(t.Context(), service(at))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", at)
	if err != nil {
		t.Errorf("Start returned, and its socket says %v", err)
	} else {
		conn.Close()
	}
	for limit := time.Now().Add(10 * time.Second); s.Stderr() == "" && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		// what it says comes another way than its answers
	}
	if s.Err() != nil || s.Pid() <= 0 || s.Stderr() != "serving\n" {
		t.Errorf("it runs with error %v, process %d and words %q", s.Err(), s.Pid(), s.Stderr())
	}
	select {
	case <-s.Done():
		t.Error("it runs and is done")
	default:
	}
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Errorf("Stop = %v", err)
		}
	}
	<-s.Done()
	ended(t, s.Pid())
}

func TestAllThatAServerSaysCanBeTaken(t *testing.T) {
	var all strings.Builder
	s, err := Start(t.Context(), Service{Command: Command{Name: "bash", Args: []string{"-c", "echo out; seq 1 9999 >&2"}, Both: &all}, NoSocket: true})
	if err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if got := all.String(); !strings.HasPrefix(got, "out\n1\n") || !strings.HasSuffix(got, s.Stderr()) || len(s.Stderr()) != stderrTail {
		t.Errorf("it said %.20q..., and %d last bytes were kept", got, len(s.Stderr()))
	}
}

func TestAServerOutlivesTheContextOfItsStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, service(socket(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	cancel()
	select {
	case <-s.Done():
		t.Errorf("it ended: %v", s.Err())
	case <-time.After(50 * time.Millisecond): // nothing is to happen
	}
}

func TestAServerThatEndsBeforeItIsReadyIsAnError(t *testing.T) {
	for script, want := range map[string]string{
		`echo "no such disk" >&2; exit 4`: "bash: exit status 4: no such disk",
		`exit 0`:                          "bash: ended before it was ready",
	} {
		s, err := Start(t.Context(), Service{Command: bash(script), Socket: socket(t)})
		if err == nil || err.Error() != want {
			t.Errorf("Start(%s) = %v, %v, want %q", script, s, err, want)
		}
	}
}

func TestAServerThatIsNeverReadyIsStopped(t *testing.T) {
	shorten(t, 50*time.Millisecond)
	script := `echo looking >&2; trap 'echo stopped >&2; exit 0' TERM; while :; do :; done`
	began := time.Now()
	_, err := Start(t.Context(), Service{Command: bash(script), Socket: socket(t), Ready: 200 * time.Millisecond})
	if want := "bash: no answer on its socket within 200ms: looking"; err == nil || err.Error() != want {
		t.Errorf("Start = %v, want %q", err, want)
	}
	if took := time.Since(began); took < 200*time.Millisecond || took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeft)
	if _, err := Start(ctx, Service{Command: bash(script), Socket: socket(t)}); !errors.Is(err, errLeft) {
		t.Errorf("Start under a cancelled context = %v, want %v", err, errLeft)
	}
}

func TestAServerThatFailsLaterTellsSo(t *testing.T) {
	s, err := Start(t.Context(), Service{Command: bash("echo worse >&2; exit 9"), NoSocket: true})
	if err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if want := "bash: exit status 9: worse"; s.Err() == nil || s.Err().Error() != want {
		t.Errorf("Err = %v, want %q", s.Err(), want)
	}
	if err := errors.Join(s.Stop(), s.Kill()); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

func TestStopKillsAServerThatIgnoresIt(t *testing.T) {
	shorten(t, 50*time.Millisecond)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := bash(`trap '' TERM; echo ready; while :; do :; done`)
	c.Stdout = write
	s, err := Start(t.Context(), Service{Command: c, NoSocket: true})
	if err := errors.Join(err, write.Close()); err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if _, err := bufio.NewReader(read).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if failure, ok := errors.AsType[*Error](s.Err()); !ok || !strings.Contains(failure.Error(), "killed") {
		t.Errorf("it ended with %v", s.Err())
	}
}

func TestAServersChildDoesNotHoldItsEnd(t *testing.T) {
	shorten(t, 50*time.Millisecond)
	s, err := Start(t.Context(), Service{Command: bash(`(while :; do read -t 1 <> <(:); done) & echo $! >&2; exit 0`), NoSocket: true})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Error("the server's end is not noticed while a child holds its standard error")
	}
	ended(t, number(t, strings.TrimSpace(s.Stderr())))
}

func TestAServerDiesWithTheAgent(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	agent, err := os.StartProcess(self(), []string{"agent"}, &os.ProcAttr{
		Env: append(os.Environ(), roleEnv+"=parent "+socket(t)), Files: []*os.File{nil, write, os.Stderr}})
	if err := errors.Join(err, write.Close()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid := number(t, strings.TrimSpace(line))
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the server does not run: %v", err)
	}
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := agent.Wait(); err != nil {
		t.Fatal(err)
	}
	ended(t, pid)
}

func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Getenv("NEED_TOOLS") == "":
		t.Skip("mounts as root: set NEED_TOOLS=1")
	case os.Geteuid() != 0:
		t.Fatal("mount namespaces need root")
	}
}

func TestPrivateMountsAreSeenByTheServerAlone(t *testing.T) {
	needRoot(t)
	s, err := Start(t.Context(), func() Service {
		private := service(socket(t))
		private.PrivateMounts = true
		return private
	}())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	ours, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", s.Pid()))
	if err != nil || its == ours {
		t.Errorf("the server's mounts are %s, %v, ours %s", its, err, ours)
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.Pid()))
	if err != nil || strings.Contains(string(mounts), " shared:") {
		t.Errorf("what it mounts may be seen by others (%v):\n%s", err, mounts)
	}
}

func TestPrivateMountsInAPlainChrootAreExplained(t *testing.T) {
	needRoot(t)
	const folder = "/usr" // on Debian it holds bin, lib and lib64 of its own
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), " "+folder+" ") {
		t.Skipf("%s is a mount point here (%v)", folder, err)
	}
	c := bash(`exec "$0"`, self())
	c.Env = []string{roleEnv + "=chroot " + folder}
	var said strings.Builder
	c.Stdout = &said
	if _, err := c.Run(t.Context()); err == nil {
		t.Error("the chrooted test binary exited with 0")
	}
	if !strings.Contains(said.String(), "/ is no mount point, as in a plain chroot") {
		t.Errorf("it says %q", said.String())
	}
}
