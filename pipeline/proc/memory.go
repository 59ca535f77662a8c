package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
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
			if used := Anonymous(pid); used > limit {
				end(fmt.Errorf("%w: more than %d MiB", ErrMemory, limit>>20))
				return
			}
		}
	}()
	return func() { close(done) }
}

// Anonymous is a process's anonymous memory in bytes, swapped out or not; 0 when
// it has ended.
func Anonymous(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return anonymous(string(status))
}

// anonymous adds up a status file's. Source: proc_pid_status(5), RssAnon, VmSwap.
func anonymous(status string) int64 {
	var sum int64
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		if key != "RssAnon" && key != "VmSwap" {
			continue
		}
		var kB int64
		if _, err := fmt.Sscanf(value, "%d kB", &kB); err == nil {
			sum += kB << 10
		}
	}
	return sum
}
