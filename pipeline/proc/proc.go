// Package proc runs the programs that hyper2kvm is built on. It is the only
// package that imports os/exec, so everything that is true of every program is
// said once: argv is safe to log, a failure carries the program's last words,
// cancelling ends the program gently and then surely, and a long-running server
// never outlives the agent.
//
// Program: an executable of a Debian package, listed in Programs.
// Command: one run of a program. Server: a run that answers on a socket.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// grace is how long a program may take to end after SIGTERM: QEMU's tools flush
// their images within it, and an operator who pressed Ctrl-C still waits. It is
// a variable for tests alone.
var grace = 5 * time.Second

// stderrTail is how much of a program's last words an Error keeps.
const stderrTail = 4 << 10

// Command is one run of a program. The zero values of all but Name are useful.
type Command struct {
	Name   string    // a program's name in Programs
	Path   string    // where an operator has it; looked up by its name if empty
	Args   []string  // without the name; logged, so never a secret
	Env    []string  // added to the agent's environment; never a secret
	Dir    string    // working directory
	Stdin  io.Reader // nothing by default
	Stdout io.Writer // receives output as it comes; Run then returns none
	Both   io.Writer // instead: receives standard error too
	On     *os.File  // instead of all three: the terminal that somebody uses the program on
	Memory int64     // anonymous memory, bytes, over which the program is ended: ErrMemory; none if zero
	// Keep are the capabilities that it may have, of those that the agent has; nil
	// for all. With fewer, neither it nor what it starts can come by more.
	Keep []uintptr
	// Confine takes more from the thread that starts it, and so from the program; it is
	// for one that does not keep all.
	Confine func() error
}

// Error is a program that could not be started or did not exit with 0.
type Error struct {
	Argv   []string
	Exit   int    // exit status, or -1 when it did not exit by itself
	Stderr string // the last 4 KiB
	Err    error
}

// Error prints one line: the program, how it ended and its last words.
func (e *Error) Error() string {
	words := strings.Join(strings.Fields(lastLines(e.Stderr, 4)), " ")
	words = strings.TrimPrefix(words, e.Argv[0]+": ")
	if words == "" {
		return fmt.Sprintf("%s: %v", e.Argv[0], e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Argv[0], e.Err, words)
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs a program to its end and returns its standard output.
// When ctx ends first, the error is the context's cause.
func Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return Command{Name: name, Args: args}.Run(ctx)
}

// Run runs the command to its end and returns its standard output, unless
// Stdout takes it. When ctx ends first, the error is the context's cause.
func (c Command) Run(ctx context.Context) ([]byte, error) {
	path, err := c.path()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var out bytes.Buffer
	said := &tail{limit: stderrTail}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Env = append(cmd.Environ(), c.Env...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Dir, c.Stdin, c.Stdout, said
	switch {
	case c.On != nil:
		cmd.Stdin, cmd.Stdout, cmd.Stderr = c.On, c.On, c.On
	case c.Both != nil:
		both := io.MultiWriter(c.Both, said) // one writer is one pipe, in which the order stays
		cmd.Stdout, cmd.Stderr = both, both
	case c.Stdout == nil:
		cmd.Stdout = &out
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	cmd.SysProcAttr = attributes()
	cmd.SysProcAttr.Setpgid = c.On == nil // a terminal is its foreground group's, which is the agent's
	began := time.Now()
	err = c.within(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		if c.Memory > 0 {
			defer watchMemory(cmd.Process.Pid, c.Memory, cancel)()
		}
		return cmd.Wait()
	})
	c.log(ctx, "program ran", began)
	if err == nil {
		return out.Bytes(), nil
	}
	if ctx.Err() != nil {
		killGroup(cmd)
		return nil, fmt.Errorf("%s: %w", c.Name, context.Cause(ctx))
	}
	return nil, c.failure(err, said)
}

// path is the program's file.
func (c Command) path() (string, error) {
	if c.Path != "" {
		return c.Path, nil
	}
	return Look(c.Name)
}

// attributes tie a program to the agent's life, and keep a terminal's Ctrl-C
// from it: the agent alone decides how its programs end.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// killGroup ends what a program that has ended left running. A group without
// processes is none, so there is no error to tell of.
func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}

func (c Command) argv() []string { return append([]string{c.Name}, c.Args...) }

func (c Command) failure(err error, said *tail) error {
	exit := -1
	if status, ok := errors.AsType[*exec.ExitError](err); ok {
		exit = status.ExitCode()
	}
	return &Error{Argv: c.argv(), Exit: exit, Stderr: said.String(), Err: err}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
