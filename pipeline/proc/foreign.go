package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Foreign is one run of a program that is not ours: it is in no table, and an operator
// put it where it is. The caller has found out that it may be run. It takes no
// arguments, and none of the agent's environment.
type Foreign struct {
	Path  string   // absolute
	Env   []string // all of its environment; never a secret
	Dir   string   // working directory
	Stdin []byte
	Keep  int // how much of its last words is kept, bytes
	// User is as whom it runs, with no other groups; nil: as this process.
	User *User
}

// User is who a program runs as.
type User struct{ UID, GID uint32 }

// Run runs the program to its end, and returns the last of what it wrote to standard
// output and standard error, together, however it ended. When ctx ends first, the
// program and what it started are asked to end, and after a grace are ended; the error
// is then the context's cause, and otherwise an *Error. What it left running when it
// ended by itself is ended too. Nothing that it runs has more rights than it has itself.
func (f Foreign) Run(ctx context.Context) (said []byte, err error) {
	words := &tail{limit: f.Keep}
	cmd := exec.CommandContext(ctx, f.Path)
	cmd.Env = append([]string{}, f.Env...) // never nil, which would be the agent's own
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = f.Dir, bytes.NewReader(f.Stdin), words, words
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	cmd.SysProcAttr = attributes()
	if f.User != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: f.User.UID, Gid: f.User.GID}
	}
	began := time.Now()
	err = unprivileged(cmd.Run)
	killGroup(cmd)
	c := Command{Name: f.Path}
	c.log(ctx, "foreign program ran", began)
	said = []byte(words.String())
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it ended well, and a child of its held its output open
		return said, nil
	case ctx.Err() != nil:
		return said, fmt.Errorf("%s: %w", f.Path, context.Cause(ctx))
	}
	return said, c.failure(err, words)
}

// unprivileged runs f on an operating system thread of which no child gains rights by
// running a program, such as one with the set-user-ID bit.
//
// Source: prctl(2), PR_SET_NO_NEW_PRIVS.
func unprivileged(f func() error) error {
	return apart(func() error {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("have programs gain no rights: %w", err)
		}
		return f()
	})
}
