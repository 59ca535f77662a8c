package direct

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest/direct/files"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/loop"
	"hyper2kvm/pipeline/proc"
)

// filesPid is the process that has a guest's files.
func filesPid(t *testing.T, g *shown) int { return childOf(t, g, files.Part) }

// childOf is a process of the mounter's that runs a program.
func childOf(t *testing.T, g *shown, program string) int {
	t.Helper()
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", g.mounter.Pid()))
	must(t, err)
	for _, name := range children {
		list, err := os.ReadFile(name)
		must(t, err)
		for word := range strings.FieldsSeq(string(list)) {
			pid, err := strconv.Atoi(word)
			must(t, err)
			argv, err := os.ReadFile("/proc/" + word + "/cmdline")
			if first, _, _ := strings.Cut(string(argv), "\x00"); err == nil && filepath.Base(first) == program {
				return pid
			}
		}
	}
	t.Fatalf("the mounter does not run %s", program)
	return 0
}

// requireBroken fails the test unless the guest is found broken, once and for all, and
// nothing is left of it.
func requireBroken(t *testing.T, g *shown, disks []string, err error, words string) {
	t.Helper()
	if !errors.Is(err, ErrBroken) || !strings.Contains(fmt.Sprint(err), words) {
		t.Errorf("error %v, want ErrBroken and %q", err, words)
	}
	if strings.Contains(fmt.Sprint(err), "\n") {
		t.Errorf("the error is more than one line: %v", err)
	}
	for name, again := range map[string]error{
		"Mount": g.Mount("disk0", "/"), "WriteFile": g.WriteFile("/x", 0, []byte("x")), "Err": g.Err(),
	} {
		if fmt.Sprint(again) != fmt.Sprint(err) {
			t.Errorf("%s: error %v, want %v as before", name, again, err)
		}
	}
	if err := g.Close(); !errors.Is(err, ErrBroken) {
		t.Errorf("Close: error %v, want ErrBroken", err)
	}
	g.broken = nil // so that the test's end finds nothing more
	requireNothingLeft(t, disks)
}

func TestAProcessThatCrashesIsOneClearError(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	for name, crash := range map[string]func(*testing.T, *shown) int{
		"mounter": func(_ *testing.T, g *shown) int { return g.mounter.Pid() },
		"files":   filesPid,
	} {
		t.Run(name, func(t *testing.T) {
			disks := []string{made(t, "ext4", 16<<20)}
			g := openDisks(t, disks...)
			must(t, g.Mount("disk0", "/"))
			must(t, g.WriteFile("/file", 0, []byte("written and not synced")))
			must(t, unix.Kill(crash(t, g), unix.SIGKILL))
			_, err := g.Lstat("/file")
			if err == nil { // the other process is told of it by the kernel, in a moment
				err = g.UnmountAll()
			}
			requireBroken(t, g, disks, err, "killed")
			requireUsable(t, disks)
		})
	}
}

// requireUsable opens disks again: the journal tells what is whole.
func requireUsable(t *testing.T, disks []string) {
	t.Helper()
	g := openDisks(t, disks...)
	must(t, g.Mount("disk0", "/"))
	must(t, g.WriteFile("/again", 0, nil))
	must(t, g.Close())
}

// halt stops a process, and returns when none of its threads runs any more: one of them has
// to see the signal first, and the others go on until then.
func halt(t *testing.T, pid int) {
	t.Helper()
	must(t, unix.Kill(pid, unix.SIGSTOP))
	for limit := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		states, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		must(t, err)
		runs := slices.ContainsFunc(states, func(name string) bool {
			text, err := os.ReadFile(name)
			return err == nil && !strings.Contains(string(text), ") T ")
		})
		if !runs && len(states) > 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("process %d is not stopped", pid)
		}
	}
}

func TestAProcessThatHangsIsOneClearError(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	for name, test := range map[string]struct {
		stop func(*testing.T, *shown) int
		call func(*shown) error
	}{
		"mounter": {func(_ *testing.T, g *shown) int { return g.mounter.Pid() }, func(g *shown) error { return g.UnmountAll() }},
		"files":   {filesPid, func(g *shown) error { _, err := g.ReadDir("/"); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			disks := []string{made(t, "ext4", 16<<20)}
			g := openDisks(t, disks...)
			g.limits.mount, g.Limit = 300*time.Millisecond, 300*time.Millisecond
			must(t, g.Mount("disk0", "/"))
			halt(t, test.stop(t, g))
			requireBroken(t, g, disks, test.call(g), "within 300ms")
			requireUsable(t, disks)
		})
	}
}

// TestEitherProcessMayBeKilledAtAnyMoment kills one of the processes while a guest is
// mounted, written and unmounted again and again, each time a little later.
func TestEitherProcessMayBeKilledAtAnyMoment(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	disks := []string{made(t, "ext4", 16<<20)}
	const kills = 20
	began := time.Now()
	requireUsable(t, disks)
	step := time.Since(began) / kills
	for i := range 2 * kills {
		g := openDisks(t, disks...)
		victim := g.mounter.Pid()
		if i%2 == 1 {
			victim = filesPid(t, g)
		}
		time.AfterFunc(time.Duration(i)*step, func() { unix.Kill(victim, unix.SIGKILL) })
		var err error
		for n := 0; err == nil; n++ {
			err = errors.Join(g.Mount("disk0", "/"), g.WriteFile("/file", 0, fmt.Append(nil, n)), g.UnmountAll())
		}
		if !errors.Is(err, ErrBroken) {
			t.Fatalf("kill %d: error %v, want ErrBroken", i, err)
		}
		if err := g.Close(); !errors.Is(err, ErrBroken) {
			t.Errorf("kill %d: Close: %v", i, err)
		}
		g.broken = nil
		requireNothingLeft(t, disks)
	}
	requireUsable(t, disks)
}

// slowDisk is a disk, its storage, and the daemon that serves it, which a test stops.
// Whoever reads from it then is in the kernel's hands until the daemon is ended.
func slowDisk(t *testing.T) (name string, storage *disk.Storage, daemon int) {
	t.Helper()
	overlay := filepath.Join(t.TempDir(), "overlay.qcow2")
	_, err := proc.Run(t.Context(), "qemu-img", "convert", "-f", "raw", "-O", "qcow2", made(t, "ext4", 64<<20), overlay)
	must(t, err)
	storage, err = disk.OpenStorage(t.Context(), []disk.Layer{{Overlay: overlay}})
	must(t, err)
	name, err = storage.Raw(t.Context(), 0)
	must(t, err)
	daemon, err = strconv.Atoi(strings.Split(name, "/")[2])
	must(t, err)
	return name, storage, daemon
}

// requireGoneWith ends the daemon of a disk that did not answer: with it goes all.
func requireGoneWith(t *testing.T, daemon int, g *shown, storage *disk.Storage) {
	t.Helper()
	must(t, unix.Kill(daemon, unix.SIGKILL))
	select {
	case <-g.mounter.Done():
	case <-time.After(10 * time.Second):
		t.Error("the mounter is still there after the disk has gone")
	}
	left, err := loop.Over(g.disks)
	if len(left) > 0 || err != nil {
		t.Errorf("%q are attached, %v", left, err)
	}
	t.Log("the storage, whose daemon was killed:", storage.Close(t.Context()))
}

func TestADiskThatDoesNotAnswerKeepsNobody(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	name, storage, daemon := slowDisk(t)
	g, err := Open(t.Context(), []string{name}, nil, slog.New(slog.DiscardHandler))
	must(t, err)
	shown := g.(*shown)
	shown.limits = limits{mount: 300 * time.Millisecond, end: time.Second}
	must(t, unix.Kill(daemon, unix.SIGSTOP))
	if err := g.Mount("disk0", "/"); !errors.Is(err, ErrBroken) {
		t.Errorf("Mount: error %v, want ErrBroken", err)
	}
	requireGoneWith(t, daemon, shown, storage)
}

// TestTheProgramIsNotInItself: it would be larger each time that it is built.
func TestTheProgramIsNotInItself(t *testing.T) {
	content, err := binaries.ReadFile("bin/parts-amd64")
	must(t, err)
	if n := bytes.Count(content, []byte("is a part of hyper2kvm, not a command")); n != 1 {
		t.Errorf("it has %d bytes, and is in there %d times", len(content), n)
	}
}

func TestADiskThatIsNotThereIsRefused(t *testing.T) {
	if _, err := Open(t.Context(), []string{"/nowhere"}, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of nothing: %v", err)
	}
}

// TestTheProcessesHaveTheRightsTheyNeed reads what the kernel says of both, of each of
// their threads.
func TestTheProcessesHaveTheRightsTheyNeed(t *testing.T) {
	guesttest.Need(t, guesttest.Programs...)
	g := openDisks(t, made(t, "ext4", 16<<20))
	must(t, g.Mount("disk0", "/"))
	_, err := g.Lstat("/") // both do their work
	must(t, err)
	for name, c := range map[string]struct {
		pid      int
		may      []uintptr
		filtered string
	}{
		"mounter": {g.mounter.Pid(), mayMount, statusOf(t, "/proc/self/status")["Seccomp"]}, // as where this runs
		"files":   {filesPid(t, g), files.Service("", nil, nil, nil).Keep, "2"},
	} {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", c.pid))
		must(t, err)
		if len(tasks) < 2 {
			t.Errorf("%s: threads %q", name, tasks)
		}
		for _, task := range tasks {
			status := statusOf(t, task)
			for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
				has, err := strconv.ParseUint(status[set], 16, 64)
				must(t, err)
				for _, may := range c.may {
					has &^= 1 << may
				}
				if has != 0 {
					t.Errorf("%s: %s has %x besides", name, set, has)
				}
			}
			if status["NoNewPrivs"] != "1" || status["Seccomp"] != c.filtered {
				t.Errorf("%s: NoNewPrivs %s, Seccomp %s", name, status["NoNewPrivs"], status["Seccomp"])
			}
		}
	}
	for _, s := range []proc.Service{mounterService(nil, false, nil), files.Service("", nil, nil, nil)} {
		if s.Memory <= 0 || s.Memory > maxMemory {
			t.Errorf("%s may have %d bytes of memory", s.Name, s.Memory)
		}
	}
}

func statusOf(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	status := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.TrimSpace(value)
	}
	return status
}
