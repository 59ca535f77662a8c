package proc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// foreign makes a program of a shell's script.
func foreign(t *testing.T, script string) Foreign {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Foreign{Path: path, Keep: 4 << 10, Dir: "/"}
}

func TestAForeignProgramHasOnlyWhatItIsGiven(t *testing.T) {
	t.Setenv("PLANTED", "hunter2")
	f := foreign(t, `cat; echo "[$PLANTED] [$GIVEN] $# $(pwd)"; echo later >&2`)
	f.Env, f.Stdin = []string{"GIVEN=yes"}, []byte("read\n")
	said, err := f.Run(t.Context())
	if want := "read\n[] [yes] 0 /\nlater\n"; err != nil || string(said) != want {
		t.Errorf("Run = %q, %v, want %q", said, err, want)
	}
	f.Env = nil
	if said, err := f.Run(t.Context()); err != nil || !strings.Contains(string(said), "[] [] 0") {
		t.Errorf("Run without environment = %q, %v", said, err)
	}
}

func TestAForeignProgramsFailureKeepsItsLastWords(t *testing.T) {
	f := foreign(t, `seq 1 100000; echo no room >&2; exit 7`)
	f.Keep = 100
	f.Stdin = make([]byte, 1<<20) // it reads nothing
	said, err := f.Run(t.Context())
	failed, ok := errors.AsType[*Error](err)
	if !ok || failed.Exit != 7 || len(said) != 100 || !strings.HasSuffix(string(said), "100000\nno room\n") {
		t.Errorf("Run = %q, %v", said, err)
	}
}

func TestWhatAForeignProgramStartedEndsWithIt(t *testing.T) {
	shorten(t, 300*time.Millisecond)
	ours := errors.New("out of time")
	for name, c := range map[string]struct {
		script string
		want   error
	}{
		"it ends by itself":    {`sleep 300 & echo $!`, nil},
		"its time is over":     {`sleep 300 & echo $!; wait`, ours},
		"it will not hear":     {`trap '' TERM; sleep 300 & echo $!; while :; do sleep 1; done`, ours},
		"its output is closed": {`sleep 300 >&- 2>&- & echo $!`, nil},
	} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, ours)
		said, err := foreign(t, c.script).Run(ctx)
		cancel()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: Run = %v, want %v", name, err, c.want)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(said)))
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); running(pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s: what it started runs on", name)
				break
			}
		}
	}
}

// running tells whether a process is there and is not a corpse that nobody buried.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}
