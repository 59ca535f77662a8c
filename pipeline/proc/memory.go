package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ErrMemory is a program that needed more memory than it may have.
var ErrMemory = errors.New("needs too much memory")

// memoryLook is how often a program's memory is looked at.
const memoryLook = 50 * time.Millisecond

// watchMemory ends a program that takes more anonymous memory than limit, until
// the function that it returns is called. A limit of the kernel's on the address
// space would not do: programs reserve much more than they use.
func watchMemory(pid int, limit int64, end context.CancelCauseFunc) (stop func()) {
	done := make(chan struct{})
	go func() {
		look := time.NewTicker(memoryLook)
		defer look.Stop()
		for {
			select {
			case <-done:
				return
			case <-look.C:
			}
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil { // it has ended
				return
			}
			if used := anonymous(string(status)); used > limit {
				end(fmt.Errorf("%w: more than %d MiB", ErrMemory, limit>>20))
				return
			}
		}
	}()
	return func() { close(done) }
}

// anonymous is a process's anonymous memory, bytes.
// Source: proc_pid_status(5), RssAnon.
func anonymous(status string) int64 {
	_, rest, _ := strings.Cut(status, "RssAnon:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kib, 10, 64)
	if err != nil { // a process that is ending has none
		return 0
	}
	return n << 10
}
