package nbd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hyper2kvm/pipeline/proc"
)

func TestNbdkitServesWhatItsPluginsMake(t *testing.T) {
	pattern := dial(t, kit("-r", "pattern", "1G")(t))
	got := make([]byte, 64)
	if err := pattern.Read(t.Context(), got, 1<<29); err != nil || !bytes.Equal(got[:8], be(uint64(1<<29))) || !bytes.Equal(got[56:], be(uint64(1<<29+56))) {
		t.Errorf("Read = %v, %x", err, got)
	}
	if !pattern.Features().ReadOnly {
		t.Error("a server with -r is not read-only")
	}
	if err := pattern.Write(t.Context(), got, 0); !errors.Is(err, syscall.EPERM) {
		t.Errorf("Write = %v, want %v", err, syscall.EPERM)
	}
	data := dial(t, kit("data", "data=1 2 3", "size=3M")(t))
	if err := data.Read(t.Context(), got, 0); err != nil || !bytes.HasPrefix(got, []byte{1, 2, 3, 0}) {
		t.Errorf("Read = %v, %v, want 1 2 3 0", err, got)
	}
}

func TestNbdkitsSparseDataHasHoles(t *testing.T) {
	c := dial(t, kit("data", "data=( 1 2 3 4 )*8192 @0x100000 ( 5 )*65536", "size=4M")(t))
	want := []Extent{{32 << 10, 0}, {1<<20 - 32<<10, 3}, {64 << 10, 0}, {3<<20 - 64<<10, 3}}
	if got := extents(t, c, Allocation, 0, c.Size()); !slices.Equal(got, want) {
		t.Errorf("Extents = %v, want %v", got, want)
	}
}

func TestAnErrorInTheMiddleIsOneRequestsAlone(t *testing.T) {
	trigger := filepath.Join(t.TempDir(), "trigger")
	for _, sr := range []string{"", "--no-sr"} {
		for name, want := range map[string]syscall.Errno{"EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC, "EPERM": syscall.EPERM} {
			args := []string{"--filter=error", "memory", "64M", "error=" + name, "error-rate=100%", "error-file=" + trigger}
			if sr != "" {
				args = append([]string{sr}, args...)
			}
			c := dial(t, kit(args...)(t))
			p := make([]byte, 1<<20)
			for range 3 {
				if err := c.Write(t.Context(), p, 0); err != nil {
					t.Errorf("Write = %v", err)
				}
				if err := os.WriteFile(trigger, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				for what, err := range map[string]error{
					"Write": c.Write(t.Context(), p, 0), "Read": c.Read(t.Context(), p, 0), "Zero": c.Zero(t.Context(), 0, 1<<20, 0),
				} {
					if !errors.Is(err, want) {
						t.Errorf("%s = %v, want %v", what, err, want)
					}
				}
				if err := os.Remove(trigger); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// The delay filter holds reads for a minute; what is asked meanwhile is answered.
func TestASlowReadHoldsUpNobodyAndMayBeTriedAgain(t *testing.T) {
	o, server := nbdkit(t, "--filter=delay", "memory", "64M", "rdelay=60")
	c := dial(t, o)
	if err := c.Write(t.Context(), make([]byte, 1<<20), 0); err != nil {
		t.Fatal(err)
	}
	answers := make(chan error)
	for i := range int64(4) {
		go func() { answers <- c.Read(t.Context(), make([]byte, 1<<20), i<<20) }()
	}
	if err := c.Write(t.Context(), make([]byte, 1<<20), 1<<20); err != nil {
		t.Error(err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := <-answers; !errors.Is(err, ErrDisconnected) {
			t.Errorf("Read = %v, want %v", err, ErrDisconnected)
		}
	}
}

// rate holds data back, so that the server dies in the middle of it.
func TestAServerThatIsKilledInMidReplyMayBeTriedAgain(t *testing.T) {
	o, server := nbdkit(t, "--filter=rate", "pattern", "64M", "connection-rate=1M")
	c := dial(t, o)
	answer := make(chan error)
	p := make([]byte, 32<<20)
	go func() { answer <- c.Read(t.Context(), p, 0) }()
	go func() { answer <- c.Read(t.Context(), make([]byte, 32<<20), 32<<20) }()
	if err := c.Read(t.Context(), make([]byte, 1), 0); err != nil {
		t.Error(err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-answer; err != nil && !errors.Is(err, ErrDisconnected) {
			t.Errorf("Read = %v, want %v", err, ErrDisconnected)
		}
	}
	if err := c.Read(t.Context(), p, 0); !errors.Is(err, ErrDisconnected) {
		t.Errorf("Read = %v, want %v", err, ErrDisconnected)
	}
}

// A chain of qcow2 files tells how deep each cluster lies, beside its holes.
func TestAQcow2TellsItsHolesAndDepths(t *testing.T) {
	dir := t.TempDir()
	base, overlay := filepath.Join(dir, "base.qcow2"), filepath.Join(dir, "overlay.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", base, "1G")
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 7 64k 128k", "-c", "write -P 8 600M 64k", base)
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay)
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -z 128k 64k", "-c", "write -P 9 512k 64k", overlay)
	o, _ := qemuNBD(t, "-r", "-A", "-f", "qcow2", overlay)
	o.Contexts = []string{Allocation, "qemu:allocation-depth"}
	c := dial(t, o)
	const k = 1 << 10
	empty, full := Extent{64 * k, 3}, Extent{64 * k, 0}
	want := []Extent{empty, full, {64 * k, 2}, {320 * k, 3}, full, {600<<20 - 576*k, 3}, full, {1<<30 - 600<<20 - 64*k, 3}}
	if got := extents(t, c, Allocation, 0, c.Size()); !slices.Equal(got, want) && !slices.Equal(got, holes(want)) {
		t.Errorf("Extents of %s = %v, want %v", Allocation, got, want)
	}
	want = []Extent{{64 * k, 0}, {64 * k, 2}, {64 * k, 1}, {320 * k, 0}, {64 * k, 1}, {600<<20 - 576*k, 0}, {64 * k, 2}, {1<<30 - 600<<20 - 64*k, 0}}
	if got := extents(t, c, "qemu:allocation-depth", 0, c.Size()); !slices.Equal(got, want) {
		t.Errorf("Extents of qemu:allocation-depth = %v, want %v", got, want)
	}
	got := make([]byte, 256*k)
	if err := c.Read(t.Context(), got, 0); err != nil || bytes.Count(got, []byte{7}) != 64*k || bytes.Count(got, []byte{0}) != 192*k {
		t.Errorf("Read = %v, or other bytes than were written", err)
	}
}

// holes takes zeroes for holes: what a zero cluster is has changed with QEMU.
func holes(all []Extent) (merged []Extent) {
	for _, e := range all {
		if e.Flags&Zero != 0 {
			e.Flags |= Hole
		}
		merged = appendExtent(merged, e)
	}
	return merged
}

func TestAnExportIsChosenByName(t *testing.T) {
	o, _ := qemuNBD(t, "-x", "mine", "-f", "raw", disk(t))
	for name, want := range map[string]error{"mine": nil, "other": ErrRefused, "": ErrRefused} {
		o.Export = name
		c, err := Dial(t.Context(), o)
		if !errors.Is(err, want) {
			t.Errorf("Dial(%q) = %v, want %v", name, err, want)
		}
		if err == nil {
			c.Close()
		}
	}
}

func disk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, bytes.Clone(noise), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFullDiskIsToldByItsErrno(t *testing.T) {
	c := dial(t, kit("full", "64M")(t))
	if err := c.Write(t.Context(), make([]byte, 4096), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Write = %v, want %v", err, syscall.ENOSPC)
	}
	if err := c.Read(t.Context(), make([]byte, 4096), 0); err != nil {
		t.Errorf("Read = %v", err)
	}
}

func TestALargeExportIsZeroedWhole(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) Options{
		"nbdkit": kit("memory", "1T"),
		"qemu-nbd": func(t *testing.T) Options {
			path := filepath.Join(t.TempDir(), "disk.qcow2")
			run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "9G")
			o, _ := qemuNBD(t, "-f", "qcow2", "--discard=unmap", path)
			return o
		},
	} {
		c := dial(t, start(t))
		p := []byte("written far up")
		off := c.Size() - int64(len(p))
		if err := errors.Join(c.Write(t.Context(), p, off), c.Zero(t.Context(), 0, c.Size(), 0), c.Read(t.Context(), p, off)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.Trim(string(p), "\x00") != "" {
			t.Errorf("%s: the end reads %q after it was zeroed", name, p)
		}
		all := extents(t, c, Allocation, 0, c.Size())
		if slices.ContainsFunc(all, func(e Extent) bool { return e.Flags&Zero == 0 }) {
			t.Errorf("%s: Extents = %v, want zeroes alone", name, all)
		}
	}
}

func TestTCPServesAsUnixSocketsDo(t *testing.T) {
	need(t, "nbdkit")
	listener, err := net.Listen("tcp", "127.0.0.1:0") // finds a free port
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	server, err := proc.Start(t.Context(), proc.Service{NoSocket: true, Command: proc.Command{
		Name: "nbdkit", Args: []string{"-f", "-i", "127.0.0.1", "-p", port, "memory", "40M"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	exercise(t, dialUntil(t, Options{Address: address}))
}

// dialUntil dials until the server listens.
func dialUntil(t *testing.T, o Options) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	c, err := Dial(ctx, o)
	for ; errors.Is(err, syscall.ECONNREFUSED); c, err = Dial(ctx, o) {
		<-tick.C
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
