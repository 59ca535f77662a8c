package disks

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/storage"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/disk/loop/looptest"
	"hyper2kvm/pipeline/proc"
)

// bench is a Keeper to whom loop devices of the test's are disks. The kernel's paths
// are real; that a device says who it is, and that one vanishes while it is mounted, is
// not proved by it.
type bench struct {
	*Keeper
	config Config

	mu       sync.Mutex
	plugged  map[string]bool
	storages storage.List
	offers   []string
	uses     map[string][]string // migrations
	after    []func() error      // what is to be done when the Keeper has let go of the disks
}

func newBench(t *testing.T, programs ...string) *bench {
	t.Helper()
	guesttest.Slow(t, append(programs, "blkid")...)
	b := &bench{plugged: map[string]bool{}, uses: map[string][]string{}}
	m := ThisMachine()
	m.Run, m.Extra = t.TempDir(), b.plug
	b.config = Config{Machine: m, State: t.TempDir(), Reserved: func() []string { return []string{"kvm"} }, Migrations: func(use string) []string { return b.uses[use] }, Log: slog.New(slog.DiscardHandler),
		Changed: func(l storage.List, offers []string) { b.storages, b.offers = l, offers }}
	b.open(t)
	t.Cleanup(func() {
		err := b.Close()
		for _, end := range b.after {
			err = errors.Join(err, end())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return b
}

// open is an agent's start.
func (b *bench) open(t *testing.T) {
	t.Helper()
	k, err := Open(b.config)
	if err == nil {
		err = k.Begin(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Keeper = k
}

func (b *bench) plug(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.plugged[name]
}

// set plugs a disk in or pulls it out, as far as the Keeper sees.
func (b *bench) set(t *testing.T, node string, there bool) {
	t.Helper()
	b.mu.Lock()
	b.plugged[filepath.Base(node)] = there
	b.mu.Unlock()
	if err := b.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// disk is a new loop device that is plugged in, and its ID.
func (b *bench) disk(t *testing.T, size int64, prepare func(node string)) (node, id string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	d := looptest.Attach(t, file, 0, 0)
	node = d.Node()
	b.after = append(b.after, func() error { // the next that is attached there would be read-only too
		err := setReadOnly(node, false)
		for number := range b.parts(filepath.Base(node)) {
			err = errors.Join(err, partition(node, unix.BLKPG_DEL_PARTITION, number, 0, 0))
		}
		return errors.Join(err, d.Detach())
	})
	if prepare != nil {
		prepare(node)
	}
	b.set(t, node, true)
	return node, b.idOf(t, node)
}

func (b *bench) idOf(t *testing.T, node string) string {
	t.Helper()
	list, err := b.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.Device == node {
			return d.ID
		}
	}
	t.Fatalf("%s is not among %+v", node, list)
	return ""
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := proc.Run(t.Context(), name, args...); err != nil {
		t.Fatal(err)
	}
}

// label writes a partition table, of which the kernel hears nothing.
func label(t *testing.T, node, table string) {
	t.Helper()
	c := proc.Command{Name: "sfdisk", Args: []string{"--quiet", "--no-reread", "--no-tell-kernel", node}, Stdin: strings.NewReader(table)}
	if _, err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// digest is of all that is on a device.
func digest(t *testing.T, node string) string {
	t.Helper()
	f, err := os.Open(node)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

// writes tries to write to a device.
func writes(node string) error {
	f, err := os.OpenFile(node, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(bytes.Repeat([]byte{1}, 4096))
	return err
}

// partition shows a partition, or hides it: a kernel may not find those of loop devices.
//
// Source: Linux include/uapi/linux/blkpg.h.
func partition(node string, op int32, number int, start, size int64) error {
	part := struct {
		start, length int64
		number        int32
		names         [128]byte
		_             int32
	}{start: start, length: size, number: int32(number)}
	arg := struct {
		op, flags, length, _ int32
		data                 unsafe.Pointer
	}{op: op, length: int32(unsafe.Sizeof(part)), data: unsafe.Pointer(&part)}
	f, err := os.Open(node)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}
