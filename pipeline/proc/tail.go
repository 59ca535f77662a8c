package proc

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// tail is a writer that keeps the last bytes written to it.
type tail struct {
	mu    sync.Mutex
	limit int
	kept  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - t.limit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

// pinned runs f on an operating system thread that lives until f returns:
// Linux sends the parent-death signal when the *thread* that forked ends.
// Source: prctl(2), PR_SET_PDEATHSIG; golang/go issue 27505.
func pinned(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- f()
	}()
	return <-done
}

// apart runs f on an operating system thread of its own, which ends with f: what is taken
// from it cannot be given back. The process's first thread cannot end, and is none.
//
// Source: runtime.LockOSThread, which ends the thread of a goroutine that ends locked.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- apart(f) // on another, as this one is busy
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}
