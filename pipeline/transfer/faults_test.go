package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/pipeline/disk/vhost"
	"hyper2kvm/pipeline/proc"
)

// A source whose server hangs ends the copy with its reason, also one that is read in
// shared memory, and the copy goes on by one that answers.
func TestASourceThatFallsSilentIsOneError(t *testing.T) {
	needTools(t)
	data := patterned(96 << 20)
	path := filepath.Join(t.TempDir(), "disk.raw")
	writeSparse(t, path, data)
	for _, way := range []string{"nbd", "shared memory"} {
		at := disk.Export{Socket: filepath.Join(t.TempDir(), "nbd"), Name: "disk"}
		args := []string{"--blockdev", "driver=raw,node-name=disk,read-only=on,file.driver=file,file.filename=" + path}
		if way != "nbd" {
			at.Shared = at.Socket + ".shared"
			args = append(args, "--export", "type=vhost-user-blk,id=shared,node-name=disk,addr.type=unix,addr.path="+at.Shared)
		}
		args = append(args, "--nbd-server", "addr.type=unix,addr.path="+at.Socket, "--export", "type=nbd,id=nbd,node-name=disk,name=disk")
		begin := func() *proc.Server {
			s, err := proc.Start(t.Context(), proc.Service{Socket: at.Socket, Command: proc.Command{Name: "qemu-storage-daemon", Args: args}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		server := begin()
		job := Job{ID: "x", From: at, To: Target{Path: filepath.Join(t.TempDir(), "out.raw"), Shape: disk.Shape{Format: disk.Raw}, Size: int64(len(data))}}
		var hang sync.Once
		slow := Parallel{Silence: time.Second, Reconnect: time.Minute, Limits: []Limit{{Rate: 8 << 20}}}
		_, err := slow.Copy(t.Context(), []Job{job}, func(Progress) {
			hang.Do(func() {
				if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
					t.Error(err)
				}
			})
		})
		if !errors.Is(err, ErrSource) || !errors.Is(err, nbd.ErrSilent) && !errors.Is(err, vhost.ErrSilent) {
			t.Errorf("%s: Copy of a disk whose server hangs: %v, want %v", way, err, nbd.ErrSilent)
		}
		// QEMU itself may fail when it goes on: of a client in shared memory that left while
		// it owed answers, an assertion of its does not know.
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		server = begin()
		if _, err := (Parallel{}).Copy(t.Context(), []Job{job}, silent); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, job.To.Path, disk.Raw), data) {
			t.Errorf("%s: the copy differs", way)
		}
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// A target whose server hangs ends the copy with its reason, and what was copied is not
// copied again when it answers.
func TestATargetThatFallsSilentIsOneError(t *testing.T) {
	data := patterned(300 << 20)
	s := source(t, data)
	shape := disk.Shape{Format: disk.QCOW2}
	whole, err := Parallel{}.Copy(t.Context(), []Job{jobOf(s, t.TempDir(), shape)}, silent)
	if err != nil {
		t.Fatal(err)
	}
	job := jobOf(s, t.TempDir(), shape)
	var hang sync.Once
	var wire int64
	slow := Parallel{Silence: time.Second, Limits: []Limit{{Rate: 20 << 20}}}
	_, err = slow.Copy(t.Context(), []Job{job}, func(p Progress) {
		if wire = p.Wire; wire > 40<<20 { // and some of it is in the journal
			hang.Do(func() { stop(t, serverOf(t, job.To.work())) })
		}
	})
	if !errors.Is(err, ErrTarget) || !errors.Is(err, vhost.ErrSilent) && !errors.Is(err, nbd.ErrSilent) {
		t.Fatalf("Copy to a disk whose server hangs: %v, want %v", err, nbd.ErrSilent)
	}
	got, err := Parallel{}.Copy(t.Context(), []Job{job}, silent)
	if err != nil {
		t.Fatal(err)
	}
	if again := wire + got[0].Wire - whole[0].Wire; wire >= whole[0].Wire || again > inFlight+unsaved {
		t.Errorf("%d bytes of %d were read again", again, whole[0].Wire)
	}
	if !bytes.Equal(content(t, job.To.Path, disk.QCOW2), data) {
		t.Error("the copy differs")
	}
}

// What goes by NBD alone to a target's server that hangs is given up as well.
func TestARequestToASilentTargetIsGivenUp(t *testing.T) {
	needTools(t)
	to := Target{Path: filepath.Join(t.TempDir(), "disk"), Shape: disk.Shape{Format: disk.QCOW2}, Size: 1 << 20}
	if err := to.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func(Writer) error{
		"Read":  func(w Writer) error { return w.Read(t.Context(), make([]byte, 512), 0) },
		"Write": func(w Writer) error { return w.Write(t.Context(), make([]byte, 512), 0) },
		"Zero":  func(w Writer) error { return w.Zero(t.Context(), 0, 512) },
		"Flush": func(w Writer) error { return w.Flush(t.Context()) },
	} {
		w, err := to.open(t.Context(), to.work(), 300*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		server := serverOf(t, to.work())
		stop(t, server)
		done := make(chan error, 1)
		go func() { done <- ask(w) }()
		select {
		case err := <-done:
			if !errors.Is(err, nbd.ErrSilent) {
				t.Errorf("%s = %v, want %v", name, err, nbd.ErrSilent)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s is waited for still", name)
		}
		if err := syscall.Kill(server, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// serverOf is the process of ours that serves a file.
func serverOf(t *testing.T, path string) int {
	t.Helper()
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range children {
		pids, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has ended
		}
		for _, pid := range strings.Fields(string(pids)) {
			argv, err := os.ReadFile("/proc/" + pid + "/cmdline")
			if err == nil && bytes.Contains(argv, []byte(path)) {
				n, err := strconv.Atoi(pid)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatalf("nobody serves %s", path)
	return 0
}

// stop has a process do nothing any more.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Error(err)
	}
}

// A source that cannot be read any more ends the copy with its reason, and what
// was copied is not copied again when it can.
func TestASourceThatFailsIsGoneOnWith(t *testing.T) {
	if _, err := proc.Look("nbdkit"); err != nil {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	needTools(t)
	const size = 96 << 20
	dir := t.TempDir()
	socket, broken := filepath.Join(dir, "s"), filepath.Join(dir, "broken")
	server, err := proc.Start(t.Context(), proc.Service{Socket: socket, Command: proc.Command{Name: "nbdkit", Args: []string{
		"--foreground", "--unix", socket, "--filter=error", "pattern", fmt.Sprint(size), "error-pread=EIO", "error-pread-rate=1", "error-pread-file=" + broken}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	from := disk.Export{Socket: socket}
	job := Job{ID: "x", From: from, To: Target{Path: filepath.Join(dir, "out.qcow2"), Shape: disk.Shape{Format: disk.QCOW2}, Size: size}}
	slow, read := Parallel{Limits: []Limit{{Rate: 40 << 20}}}, int64(0)
	_, err = slow.Copy(t.Context(), []Job{job}, func(p Progress) {
		if read = p.Wire; read > 20<<20 {
			if err := os.WriteFile(broken, nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, ErrSource) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("Copy of a disk that fails: %v, want %v", err, syscall.EIO)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	got, err := Parallel{}.Copy(t.Context(), []Job{job}, silent)
	if err != nil {
		t.Fatal(err)
	}
	if again := read + got[0].Wire - size; again > 0 && again > inFlight {
		t.Errorf("%d bytes were read again", again)
	}
	if v, err := (Parallel{}).Verify(t.Context(), Check{Manifest: job.To.Manifest(), From: from, Source: true}, silent); err != nil {
		t.Errorf("the copy is not what the source is: %+v, %v", v, err)
	}
	verified(t, job)
}
