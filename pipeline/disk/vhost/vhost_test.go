package vhost

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"hyper2kvm/pipeline/proc"
)

const testSize = 32 << 20

// serve has QEMU serve a raw file of testSize bytes.
func serve(t *testing.T, writable string) (socket, path string, server *proc.Server) {
	t.Helper()
	if _, err := proc.Look("qemu-storage-daemon"); err != nil {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	path, socket = filepath.Join(dir, "disk.raw"), filepath.Join(dir, "vhost.sock")
	data := make([]byte, testSize)
	random := rand.NewChaCha8([32]byte{7})
	random.Read(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := proc.Start(t.Context(), proc.Service{Socket: filepath.Join(dir, "nbd.sock"), Command: proc.Command{Name: "qemu-storage-daemon", Args: []string{
		"--blockdev", "driver=file,node-name=file,filename=" + path, "--blockdev", "driver=raw,node-name=disk,file=file",
		"--export", "type=vhost-user-blk,id=v,node-name=disk,addr.type=unix,addr.path=" + socket + ",writable=" + writable,
		"--nbd-server", "addr.type=unix,addr.path=" + filepath.Join(dir, "nbd.sock")}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	return socket, path, server
}

func dial(t *testing.T, socket string) (*Device, *Memory) {
	t.Helper()
	m, err := NewMemory(8 << 20)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Dial(t.Context(), socket, m)
	if err != nil {
		t.Fatal(errors.Join(err, m.Close()))
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Close(), m.Close()); err != nil {
			t.Error(err)
		}
	})
	return d, m
}

func TestADiskIsReadAndWrittenInSharedMemory(t *testing.T) {
	socket, path, _ := serve(t, "on")
	d, m := dial(t, socket)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d.Size() != testSize {
		t.Fatalf("the disk has %d bytes, want %d", d.Size(), testSize)
	}
	const piece = 64 << 10
	var mu sync.Mutex // guards want
	var group sync.WaitGroup
	for w := range 16 {
		p := m.Bytes()[w*piece:][:piece]
		random := rand.New(rand.NewPCG(uint64(w), 1))
		group.Go(func() {
			for range 60 {
				off := (random.Int64N(testSize/piece/16)*16 + int64(w)) * piece // its own pieces
				if err := d.Read(t.Context(), p, off); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				same := bytes.Equal(p, want[off:off+piece])
				mu.Unlock()
				if !same {
					t.Errorf("what is read at %d is other than what was written", off)
					return
				}
				for i := range p {
					p[i] = byte(random.Uint32())
				}
				if err := d.Write(t.Context(), p, off); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				copy(want[off:], p)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file differs: %v", err)
	}
}

func TestWhatDoesNotFitIsLeftToOthers(t *testing.T) {
	socket, _, _ := serve(t, "off")
	d, m := dial(t, socket)
	for name, c := range map[string]struct {
		p   []byte
		off int64
	}{
		"other memory":        {make([]byte, 512), 0},
		"half a sector":       {m.Bytes()[:256], 0},
		"between two sectors": {m.Bytes()[:512], 100},
		"behind the end":      {m.Bytes()[:1024], testSize - 512},
		"before the start":    {m.Bytes()[:512], -512},
		"nothing":             {m.Bytes()[:0], 0},
	} {
		if err := d.Read(t.Context(), c.p, c.off); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v, want %v", name, err, ErrUnfit)
		}
	}
	if err := d.Write(t.Context(), m.Bytes()[:512], 0); !errors.Is(err, ErrFailed) {
		t.Errorf("a write to a disk that is only read: %v, want %v", err, ErrFailed)
	}
	if err := d.Read(t.Context(), m.Bytes()[:512], testSize-512); err != nil {
		t.Error(err)
	}
}

func TestAServerThatEndsLosesTheDevice(t *testing.T) {
	socket, _, server := serve(t, "off")
	d, m := dial(t, socket)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := d.Read(t.Context(), m.Bytes()[:512], 0); !errors.Is(err, ErrLost) {
		t.Errorf("Read = %v, want %v", err, ErrLost)
	}
	if _, err := Dial(t.Context(), socket, m); err == nil {
		t.Error("a server that is gone was dialed")
	}
}

func TestASecondClientWaitsNoLongerThanItMay(t *testing.T) {
	socket, _, _ := serve(t, "off")
	_, m := dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, socket, m); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial = %v, want %v", err, context.DeadlineExceeded)
	}
}

// A server that answers nothing for longer than it may is given up, for all who wait.
func TestADeviceThatFallsSilentIsGivenUp(t *testing.T) {
	socket, _, server := serve(t, "off")
	d, m := dial(t, socket)
	d.Silence = time.Second
	if err := d.Read(t.Context(), m.Bytes()[:512], 0); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * d.Silence) // of a device that owes nothing
	if err := d.Read(t.Context(), m.Bytes()[:512], 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(server.Pid(), syscall.SIGCONT)
	done := make(chan error, 2)
	for i := range 2 {
		go func() { done <- d.Read(t.Context(), m.Bytes()[i*512:][:512], 0) }()
	}
	for range 2 {
		select {
		case err := <-done:
			if !errors.Is(err, ErrSilent) {
				t.Errorf("Read = %v, want %v", err, ErrSilent)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it is waited for still")
		}
	}
}

// A server that hangs, on storage that does, does not keep who waits for it.
func TestAServerThatHangsIsGivenUp(t *testing.T) {
	socket, _, server := serve(t, "off")
	d, m := dial(t, socket)
	if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(server.Pid(), syscall.SIGCONT)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() { done <- d.do(ctx, typeIn, m.Bytes()[:512], 0) }()
	for { // a turn is taken at random when the context has ended before
		err := <-done
		if errors.Is(err, ErrLost) {
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Read = %v, want %v", err, ErrLost)
		}
		go func() { done <- d.do(ctx, typeIn, m.Bytes()[:512], 0) }()
	}
}
