package proc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func bash(script string, args ...string) Command {
	return Command{Name: "bash", Args: append([]string{"-c", script}, args...)}
}

// shorten makes the grace of programs that ignore SIGTERM a short one.
func shorten(t *testing.T, d time.Duration) {
	t.Helper()
	old := grace
	grace = d
	t.Cleanup(func() { grace = old })
}

func TestRunReturnsWhatTheProgramPrints(t *testing.T) {
	c := bash(`cat; printf %s "$1$WORD in $PWD"`, "bash", "one ")
	c.Stdin, c.Env, c.Dir = strings.NewReader("read "), []string{"WORD=two"}, "/"
	out, err := c.Run(t.Context())
	if want := "read one two in /"; err != nil || string(out) != want {
		t.Errorf("Run = %q, %v, want %q", out, err, want)
	}
	var taken bytes.Buffer
	c = bash("echo taken")
	c.Stdout = &taken
	if out, err := c.Run(t.Context()); err != nil || out != nil || taken.String() != "taken\n" {
		t.Errorf("Run with Stdout = %q, %v, and wrote %q", out, err, taken.String())
	}
}

func TestBothStreamsMayBeTaken(t *testing.T) {
	var taken bytes.Buffer
	c := bash("echo one; echo two >&2; echo three; exit 4")
	c.Both = &taken
	_, err := c.Run(t.Context())
	failure, ok := errors.AsType[*Error](err)
	const all = "one\ntwo\nthree\n"
	if !ok || failure.Exit != 4 || failure.Stderr != all {
		t.Errorf("Run = %v", err)
	}
	if got := taken.String(); got != all {
		t.Errorf("it said %q, want %q", got, all)
	}
}

func TestAProgramThatTakesTooMuchMemoryIsEnded(t *testing.T) {
	c := bash(`a=$(printf 'x%.0s' {1..1000}); while :; do a=$a$a; [ ${#a} -lt 60000000 ] || sleep 600; done`)
	c.Memory = 32 << 20
	began := time.Now()
	_, err := c.Run(t.Context())
	if took := time.Since(began); !errors.Is(err, ErrMemory) || took > 60*time.Second {
		t.Errorf("Run = %v after %v, want ErrMemory", err, took)
	}
	c = bash("echo small")
	c.Memory = 32 << 20
	if out, err := c.Run(t.Context()); err != nil || string(out) != "small\n" {
		t.Errorf("a small program: %q, %v", out, err)
	}
}

func TestAFailureCarriesExitStatusAndLastWords(t *testing.T) {
	_, err := bash(`printf 'first\nsecond\n\n  the disk\nis  full \n' >&2; exit 7`).Run(t.Context())
	failure, ok := errors.AsType[*Error](err)
	if !ok || failure.Exit != 7 || failure.Argv[0] != "bash" || len(failure.Argv) != 3 {
		t.Fatalf("Run = %#v", err)
	}
	if want := "bash: exit status 7: second the disk is full"; err.Error() != want {
		t.Errorf("it says %q, want %q", err, want)
	}
	_, err = bash("exit 3").Run(t.Context())
	if want := "bash: exit status 3"; err == nil || err.Error() != want {
		t.Errorf("without words it says %q, want %q", err, want)
	}
	_, err = bash("kill -KILL $$").Run(t.Context())
	if failure, ok := errors.AsType[*Error](err); !ok || failure.Exit != -1 {
		t.Errorf("killed by a signal: %#v, want exit -1", err)
	}
}

func TestLastWordsAreTheLast4KiB(t *testing.T) {
	_, err := bash(`printf 'x%.0s' {1..100000} >&2; printf end >&2; exit 1`).Run(t.Context())
	failure, ok := errors.AsType[*Error](err)
	if !ok || len(failure.Stderr) != 4096 || !strings.HasSuffix(failure.Stderr, "xxend") {
		t.Errorf("Run = %.60v", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has several lines: %q", err)
	}
}

var errLeft = errors.New("the operator left")

// cancelled runs a script and cancels it when it has printed a line.
func cancelled(t *testing.T, script string) (printed string, err error) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	var out bytes.Buffer
	c := bash(script)
	c.Stdout = writerFunc(func(p []byte) (int, error) {
		cancel(errLeft)
		return out.Write(p)
	})
	_, err = c.Run(ctx)
	return out.String(), err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestCancelEndsAProgramGentlyWithItsCause(t *testing.T) {
	out, err := cancelled(t, `trap 'echo flushed; exit 0' TERM; echo ready; sleep 60 >/dev/null 2>&1 & wait`)
	if !errors.Is(err, errLeft) || err.Error() != "bash: the operator left" {
		t.Errorf("Run = %v, want %v", err, errLeft)
	}
	if out != "ready\nflushed\n" {
		t.Errorf("it printed %q", out)
	}
}

func TestCancelKillsAProgramThatIgnoresIt(t *testing.T) {
	shorten(t, 50*time.Millisecond)
	began := time.Now()
	_, err := cancelled(t, `trap '' TERM; echo ready; while :; do :; done`)
	if took := time.Since(began); took > 5*time.Second || took < grace {
		t.Errorf("it took %v", took)
	}
	if !errors.Is(err, errLeft) {
		t.Errorf("Run = %v, want %v", err, errLeft)
	}
}

func TestCancelLeavesNoChildOfTheProgram(t *testing.T) {
	shorten(t, 50*time.Millisecond)
	out, err := cancelled(t, `(trap '' TERM; while :; do :; done) & echo $!; wait`)
	if !errors.Is(err, errLeft) {
		t.Errorf("Run = %v, want %v", err, errLeft)
	}
	ended(t, number(t, strings.TrimSpace(out)))
}

func TestATerminalsInterruptIsNotForPrograms(t *testing.T) {
	out, err := bash(`ps=($(< /proc/$$/stat)); echo ${ps[4]}`).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if group := number(t, strings.TrimSpace(string(out))); group == syscall.Getpgrp() {
		t.Errorf("a program is in this process's group %d", group)
	}
}

func TestOnlyProgramsOfTheTableAreFound(t *testing.T) {
	if _, err := Look("no-such-program"); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("Look of a name out of the table: %v", err)
	}
	if _, err := Run(t.Context(), "no-such-program"); err == nil {
		t.Error("a program out of the table was run")
	}
}

func TestAMissingProgramNamesItsPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	defer func(old []string) { sbin = old }(sbin)
	sbin = nil
	_, err := Run(t.Context(), "qemu-img", "--version")
	if !errors.Is(err, ErrMissing) || !strings.HasSuffix(err.Error(), "install the package qemu-utils") {
		t.Errorf("Run = %v", err)
	}
}

func TestAProgramIsFoundOutsideOfPATH(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("PATH", t.TempDir())
	defer func(old []string) { sbin = old }(sbin)
	sbin = []string{t.TempDir(), folder}
	path := filepath.Join(folder, "sfdisk")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Look("sfdisk"); !errors.Is(err, ErrMissing) {
		t.Errorf("a file that cannot be run is found: %v", err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := Look("sfdisk"); err != nil || got != path {
		t.Errorf("Look = %q, %v, want %q", got, err, path)
	}
}

func TestEveryProgramIsInTheTableOnceWithItsPackage(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Programs {
		if p.Name == "" || (p.Package == "" && !p.Bench && !p.Hook) || p.Usage == "" || seen[p.Name] {
			t.Errorf("%+v is incomplete or there twice", p)
		}
		seen[p.Name] = true
	}
}

func TestALogOfTheContextToldOfEveryRun(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if _, err := bash("exit 1").Run(WithLogger(t.Context(), log)); err == nil {
		t.Error("exit 1 is no error")
	}
	if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=DEBUG msg="program ran" argv="[bash -c exit 1]" took=`) {
		t.Errorf("the log says %q", got)
	}
}

func TestAProgramRunsFromWhereAnOperatorHasIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho mine\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := Command{Name: "govc", Path: path}.Run(t.Context())
	if err != nil || string(out) != "mine\n" {
		t.Errorf("Run = %q, %v", out, err)
	}
	if _, err := Look("ovftool"); err != nil && (!errors.Is(err, ErrMissing) || strings.Contains(err.Error(), "package")) {
		t.Errorf("Look = %v, and no package has it", err)
	}
}
