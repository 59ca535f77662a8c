package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

// reading is the CPU time that a run has used by then.
type reading struct {
	At, CPU time.Duration
}

// measure runs a command to its end and tells what it cost, phases apart, and
// when it began. Nothing else may run below this process meanwhile.
func measure(ctx context.Context, c proc.Command) (Cost, []reading, time.Time, error) {
	// Daemons that leave their parent become children of this process, so that
	// they are seen and their CPU time is counted.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return Cost{}, nil, time.Time{}, fmt.Errorf("become the reaper of daemons: %w", err)
	}
	before, err := reaped()
	if err != nil {
		return Cost{}, nil, time.Time{}, err
	}
	cost := Cost{Programs: map[string]int64{}}
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx)
		done <- err
	}()
	var readings []reading
	for {
		select {
		case err = <-done:
			cost.Wall = time.Since(began)
			after, failed := afterAll()
			cost.CPU = after - before
			readings = append(readings, reading{cost.Wall, cost.CPU})
			return cost, readings, began, errors.Join(err, failed)
		case <-time.After(pause(time.Since(began))):
		}
		used, failed := look(&cost)
		if failed != nil {
			return cost, nil, began, errors.Join(failed, <-done)
		}
		now, failed := reaped()
		if failed != nil {
			return cost, nil, began, errors.Join(failed, <-done)
		}
		readings = append(readings, reading{time.Since(began), now - before + used})
	}
}

// pause is the time to the next sample: a short run is looked at closely.
func pause(elapsed time.Duration) time.Duration {
	if elapsed < time.Minute {
		return 20 * time.Millisecond
	}
	return 250 * time.Millisecond
}

// reaped is the CPU time of all children that have ended and been waited for,
// with theirs.
func reaped() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// afterAll waits for daemons that are still going down.
func afterAll() (time.Duration, error) {
	for {
		_, err := syscall.Wait4(-1, nil, 0, nil)
		if errors.Is(err, syscall.ECHILD) {
			return reaped()
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return 0, err
		}
	}
}

// process is one process as /proc shows it.
type process struct {
	parent int
	name   string
	cpu    time.Duration // with that of children that it has waited for
}

// look adds the memory of all processes below this one to a cost, and returns
// the CPU time of those that are alive.
func look(cost *Cost) (time.Duration, error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	var used time.Duration
	var ours, machines int64
	programs := map[string]int64{}
	for pid, p := range all {
		if !below(all, pid, os.Getpid()) {
			continue
		}
		used += p.cpu
		if borrows(pid, p.parent) {
			continue
		}
		anon := proc.Anonymous(pid)
		if strings.HasPrefix(p.name, "qemu-system") {
			machines += anon
			continue
		}
		ours += anon
		programs[p.name] += anon
	}
	cost.Ours, cost.Machines = max(cost.Ours, ours), max(cost.Machines, machines)
	for name, anon := range programs {
		cost.Programs[name] = max(cost.Programs[name], anon)
	}
	return used, nil
}

// borrows tells whether a process has its parent's memory: one that is being
// started has, until it runs its own program, and would be counted twice.
//
// Source: kcmp(2), KCMP_VM.
func borrows(pid, parent int) bool {
	const vm = 1
	differ, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(parent), vm, 0, 0, 0)
	return errno == 0 && differ == 0
}

func below(all map[int]process, pid, ancestor int) bool {
	for range 64 { // deeper than any of these trees
		p, ok := all[pid]
		if !ok {
			return false
		}
		if p.parent == ancestor {
			return true
		}
		pid = p.parent
	}
	return false
}

// processes are all of this machine's. One that ends meanwhile is left out.
func processes() (map[int]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		if p, ok := parseStat(stat); ok {
			all[pid] = p
		}
	}
	return all, nil
}

// tick is the unit of CPU time in /proc: USER_HZ is 100 on every Linux of a PC.
const tick = 10 * time.Millisecond

// parseStat reads a process's stat file.
//
// Source: proc_pid_stat(5): comm is field 2, ppid 4, utime to cstime 14 to 17.
func parseStat(stat []byte) (process, bool) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return process{}, false
	}
	fields := strings.Fields(string(stat[end+1:])) // from field 3 on
	if len(fields) < 15 {
		return process{}, false
	}
	p := process{name: string(stat[open+1 : end])}
	var err error
	if p.parent, err = strconv.Atoi(fields[1]); err != nil {
		return process{}, false
	}
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return process{}, false
		}
		p.cpu += time.Duration(n) * tick
	}
	return p, true
}
