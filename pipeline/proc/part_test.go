package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Parts that the test binary plays.
const (
	rightsPart = "rights"
	greedyPart = "greedy"
)

// playPart plays a part, if the test binary was started for one.
func playPart() (played bool, err error) {
	switch os.Args[0] {
	case rightsPart:
		return true, tellRights()
	case greedyPart:
		kept := make([]byte, 64<<20)
		for i := range kept {
			kept[i] = 1
		}
		err := unix.Pause() // until it is ended
		runtime.KeepAlive(kept)
		return true, err
	}
	return false, nil
}

// tellRights writes this process's status into the file that it was handed, and what it
// was told.
func tellRights() error {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(Handed(0, "pipe"), "%s\nargs: %q\n", status, os.Args)
	return err
}

func startPart(t *testing.T, s Service) (*Server, string) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s.Part, s.NoSocket, s.Files = true, true, []*os.File{in}
	server, err := Start(t.Context(), s)
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	return server, string(said)
}

func TestAPartHasTheRightsThatItMayKeep(t *testing.T) {
	needRoot(t)
	for _, keep := range [][]uintptr{{}, {unix.CAP_CHOWN}, {unix.CAP_CHOWN, unix.CAP_SETFCAP}} {
		server, said := startPart(t, Service{Command: Command{Name: rightsPart, Args: []string{"--x"}, Keep: keep}})
		if err := server.Err(); err != nil {
			t.Fatal(err)
		}
		mask := uint64(0)
		for _, c := range keep {
			mask |= 1 << c
		}
		for _, want := range []string{fmt.Sprintf("CapEff:\t%016x\n", mask), fmt.Sprintf("CapPrm:\t%016x\n", mask), fmt.Sprintf("CapBnd:\t%016x\n", mask), "NoNewPrivs:\t1\n", `args: ["rights" "--x"]`} {
			if !strings.Contains(said, want) {
				t.Errorf("with %v kept, there is no %q in %s", keep, want, said)
			}
		}
	}
}

// TestOthersKeepTheirRights: the thread that gave its own up for a part is not used for
// anything else.
func TestOthersKeepTheirRights(t *testing.T) {
	needRoot(t)
	startPart(t, Service{Command: Command{Name: rightsPart, Keep: []uintptr{}}})
	for range 50 {
		bounding, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_CHOWN, 0, 0, 0)
		if bounding != 1 || err != nil {
			t.Fatalf("this process's own bounding set is less: %d, %v", bounding, err)
		}
		runtime.Gosched()
	}
	_, said := startPart(t, Service{Command: Command{Name: rightsPart}})
	if !strings.Contains(said, "NoNewPrivs:\t0\n") {
		t.Errorf("a part that keeps all has fewer rights: %s", said)
	}
}

func TestAServerThatNeedsTooMuchMemoryIsEnded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := Start(ctx, Service{Command: Command{Name: greedyPart, Memory: 32 << 20}, Part: true, NoSocket: true})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.Done():
	case <-ctx.Done():
		t.Fatal("it is still there")
	}
	if err := server.Err(); !errors.Is(err, ErrMemory) {
		t.Errorf("error %v, want ErrMemory", err)
	}
}

// TestTheFirstThreadKeepsItsRights, which stays as long as the process does.
func TestTheFirstThreadKeepsItsRights(t *testing.T) {
	needRoot(t)
	for range 200 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := weakened(nil, func() error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	text, err := os.ReadFile("/proc/self/status") // of the first thread
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "NoNewPrivs:\t0") {
		t.Error("it has given up rights, and does not end")
	}
}
