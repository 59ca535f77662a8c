//go:build appliance

package libguestfs

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

	"libguestfs.org/guestfs"
)

// launch starts the virtual machine, under a name. The library knows no way to give up: the
// call holds the handle's lock, so neither user_cancel nor get_pid helps, and
// closing would wait. What ends it is the end of its QEMU.
func launch(ctx context.Context, handle *guestfs.Guestfs, name string, limit time.Duration) error {
	if err := handle.Config("-name", &name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %v", ErrLaunch, limit))
	defer cancel()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan error)
	go func() {
		defer pin(handle)()
		done <- handle.Launch()
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%w: %w", ErrLaunch, err)
		}
		return nil
	case <-ctx.Done():
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := killChild(name); err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		select {
		case err := <-done:
			if err == nil { // it came up at the last moment
				err = handle.Shutdown()
			}
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// killChild kills the child process of ours that was given this name: the QEMU
// of one handle, if it has been started by now.
func killChild(name string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !isChild(pid) {
			continue
		}
		args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !bytes.Contains(args, []byte(name)) { // ended meanwhile, or another
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("kill QEMU %d: %w", pid, err)
		}
	}
	return nil
}

// isChild tells whether we are a process's parent: the fourth field of its
// stat, the second after the name in brackets.
func isChild(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid())
}

// deadline is how long a launch may take. Emulated ones take 25 to 55 s on an
// idle machine, and the first one on a machine also builds the appliance.
func (o Options) deadline() time.Duration {
	switch {
	case o.Deadline > 0:
		return o.Deadline
	case o.TCG:
		return 10 * time.Minute
	}
	return 2 * time.Minute
}
