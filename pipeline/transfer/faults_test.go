package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
