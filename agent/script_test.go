package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"hyper2kvm/agent/vcenter"
	"hyper2kvm/agent/worker"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/disk/loop"
	"hyper2kvm/pipeline/proc"
)

func TestMain(m *testing.M) {
	if status, played := worker.Serve(vcenter.Guests{}); played {
		os.Exit(status)
	}
	testscript.Main(m, map[string]func(){"hyper2kvm": main})
}

// Each script is a story of the command line. Its own commands:
//
//	exits STATUS ARG…    run hyper2kvm; a failure is one readable line
//	exits-as-nobody …    the same as a user with no rights (root, setpriv)
//	empty FOLDER         nothing is in it
//	guest FILE [FSTAB]   make a disk with the least of a Linux guest (tools, root)
//	tmpfs FOLDER SIZE    mount a small file system there (root)
//	device NAME SIZE     make a block device of SIZE MiB, all zeroes, and put its path into $NAME (root)
//	cut FILE BYTES       keep the beginning of a file
//	appliance FILE       write settings of an appliance with the storages vmware and kvm, and put its ways in into $APPLIANCE and $HTTPS
//	answers              wait until it answers, and put its fingerprint into $FINGERPRINT
//	waits TEXT ARG…      run hyper2kvm again and again until it prints a text
//	end FILE             end the process whose ID is in the file
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			return os.Mkdir(filepath.Join(e.WorkDir, "to"), 0o755)
		},
		Condition: func(name string) (bool, error) {
			if name != "tools" {
				return false, errors.New("no such condition: " + name)
			}
			return os.Getenv("NEED_TOOLS") != "", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "exits-as-nobody": exitsAsNobody, "empty": empty, "guest": makeGuest, "tmpfs": mountTmpfs, "device": makeDevice, "cut": cut, "end": end,
			"appliance": settle, "answers": answers, "waits": waits,
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	exitsBy(ts, neg, args, "hyper2kvm")
}

// exitsAsNobody opens the way to the script's folder, and nothing in it.
func exitsAsNobody(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range []string{ts.Getenv("WORK"), filepath.Dir(ts.Getenv("WORK"))} {
		ts.Check(os.Chmod(dir, 0o711))
	}
	exitsBy(ts, neg, args, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "hyper2kvm")
}

func exitsBy(ts *testscript.TestScript, neg bool, args []string, program ...string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: exits STATUS [ARG…]")
	}
	got := 0
	if err := ts.Exec(program[0], append(program[1:], args[1:]...)...); err != nil {
		status, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = status.ExitCode()
	}
	said := ts.ReadFile("stderr")
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("exit status %d, want %s; it says:\n%s%s", got, want, ts.ReadFile("stdout"), said)
	}
	if got != 0 {
		oneSentence(ts, said)
	}
}

// oneSentence holds what the operator reads of a failure to one line, last on
// standard error, that says nothing twice.
func oneSentence(ts *testscript.TestScript, said string) {
	lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
	if strings.Count(said, "hyper2kvm: ") != 1 || !strings.HasPrefix(lines[len(lines)-1], "hyper2kvm: ") {
		ts.Fatalf("the failure is not one line at the end:\n%s", said)
	}
	parts := strings.Split(lines[len(lines)-1], ": ")
	for i, part := range parts[1:] {
		if part == parts[i] {
			ts.Fatalf("it says %q twice: %s", part, lines[len(lines)-1])
		}
	}
}

func empty(ts *testscript.TestScript, neg bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if neg || len(entries) > 0 {
		ts.Fatalf("%s holds %v", args[0], entries)
	}
}

func cut(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

func end(ts *testscript.TestScript, neg bool, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	ts.Check(unix.Kill(pid, unix.SIGTERM))
}

func mountTmpfs(ts *testscript.TestScript, neg bool, args []string) {
	folder := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(folder, 0o755))
	ts.Check(unix.Mount("none", folder, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { ts.Check(unix.Unmount(folder, 0)) })
}

func makeDevice(ts *testscript.TestScript, neg bool, args []string) {
	size, err := strconv.ParseInt(strings.TrimSuffix(args[1], "M"), 10, 64)
	ts.Check(err)
	file := ts.MkAbs(args[0] + ".device")
	ts.Check(os.WriteFile(file, nil, 0o600))
	ts.Check(os.Truncate(file, size<<20))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	d, err := loop.Attach(f, 0, 0)
	ts.Check(err)
	ts.Setenv(args[0], d.Node())
	ts.Defer(func() { ts.Check(d.Detach()) })
}

// makeGuest makes a disk of one partition with a system's name and an fstab. In
// the second form the fstab is that of the script.
func makeGuest(ts *testscript.TestScript, neg bool, args []string) {
	if os.Geteuid() != 0 {
		ts.Fatalf("the direct engine needs root")
	}
	fstab := guesttest.SmallFstab
	if len(args) > 1 {
		fstab = ts.ReadFile(args[1])
	}
	ts.Check(guesttest.Small(context.Background(), ts.MkAbs(args[0]), fstab))
}

// A log at level Debug names every program with its argv.
func TestVerboseTellsOfEveryProgram(t *testing.T) {
	if _, err := proc.Look("qemu-img"); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "x.qcow2")
	if _, err := proc.Run(t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "-u", path, "1M"); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if got := run(t.Context(), []string{"-v", "inspect", path}, &stdout, &stderr); got != exitBadInput {
		t.Errorf("exit status %d, want %d", got, exitBadInput)
	}
	if want := regexp.MustCompile(`level=DEBUG msg="program ran" argv="\[qemu-img info .*\]" took=`); !want.MatchString(stderr.String()) {
		t.Errorf("the log does not match %s:\n%s", want, &stderr)
	}
}
