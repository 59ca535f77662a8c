package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/engine"
)

// lease ends this process, and all that it has started, when it was not renewed.
type lease struct {
	timer *time.Timer
	group string // folder of the control group; "" if there is none of its own
}

func newLease(d time.Duration, group string) *lease {
	l := &lease{group: group}
	l.timer = time.AfterFunc(d, func() { l.end("its lease is over") })
	return l
}

func (l *lease) renew(d time.Duration) { l.timer.Reset(d) }

// end kills. What this process has started ends with it by the kernel's doing, and by
// the group's where one of them has left it to others.
func (l *lease) end(why string) {
	fmt.Fprintln(os.Stderr, "the runner ends:", why)
	if l.group != "" {
		_ = os.WriteFile(filepath.Join(l.group, "cgroup.kill"), []byte("1"), 0) // this process is in it: if it goes on, the next line is reached
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}

// leaseLeft is how long a job's owner may go on.
func leaseLeft(j engine.Job) time.Duration { return max(time.Until(j.Lease()), time.Millisecond) }
