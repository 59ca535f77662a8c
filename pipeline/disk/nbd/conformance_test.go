package nbd

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const diskSize = 40 << 20

// writable are servers of an empty disk of diskSize bytes, and what they can do.
var writable = []struct {
	name  string
	start func(t *testing.T) Options
	want  Features
	// context tells whether base:allocation is there.
	context bool
}{
	{"nbdkit memory", kit("memory", "40M"),
		Features{Flush: true, FUA: true, Trim: true, Zero: true, FastZero: true, MultiConn: true, Structured: true}, true},
	{"nbdkit without structured replies", kit("--no-sr", "memory", "40M"),
		Features{Flush: true, FUA: true, Trim: true, Zero: true, FastZero: true, MultiConn: true}, false},
	{"nbdkit of before fixed newstyle", kit("--mask-handshake=0", "memory", "40M"),
		Features{Flush: true, FUA: true, Trim: true, Zero: true, FastZero: true, MultiConn: true}, false},
	{"nbdkit that sends reserved zeroes", kit("--mask-handshake=1", "memory", "40M"),
		Features{Flush: true, FUA: true, Trim: true, Zero: true, FastZero: true, MultiConn: true, Structured: true}, true},
	{"nbdkit of one request at a time", kit("--filter=noparallel", "memory", "40M"),
		Features{Flush: true, FUA: true, Trim: true, Zero: true, FastZero: true, MultiConn: true, Structured: true}, true},
	{"nbdkit with block sizes", kit("--filter=blocksize-policy", "memory", "40M",
		"blocksize-minimum=4096", "blocksize-preferred=64K", "blocksize-maximum=200K", "blocksize-error-policy=error"),
		Features{Flush: true, FUA: true, Trim: true, Zero: true, FastZero: true, MultiConn: true, Structured: true}, true},
	{"qemu-nbd raw", qemu("raw"),
		Features{Flush: true, FUA: true, Trim: true, Zero: true, FastZero: true, MultiConn: true, Structured: true}, true},
	{"qemu-nbd qcow2", qemu("qcow2"),
		Features{Flush: true, FUA: true, Trim: true, Zero: true, FastZero: true, MultiConn: true, Structured: true}, true},
}

func kit(args ...string) func(t *testing.T) Options {
	return func(t *testing.T) Options {
		o, _ := nbdkit(t, args...)
		return o
	}
}

func qemu(format string) func(t *testing.T) Options {
	return func(t *testing.T) Options {
		path := filepath.Join(t.TempDir(), "disk")
		run(t, "qemu-img", "create", "-q", "-f", format, path, "40M")
		o, _ := qemuNBD(t, "-f", format, "--discard=unmap", path)
		return o
	}
}

func TestEveryServerKeepsWhatItIsGiven(t *testing.T) {
	for _, s := range writable {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, s.start(t))
			if c.Size() != diskSize || c.Features() != s.want {
				t.Errorf("Size, Features = %d, %+v, want %d, %+v", c.Size(), c.Features(), diskSize, s.want)
			}
			if s.context {
				// qemu-img allocates the first block of a raw disk, to learn its alignment.
				if all := extents(t, c, Allocation, 64<<10, diskSize-64<<10); len(all) != 1 || all[0].Flags&Zero == 0 {
					t.Errorf("Extents of an empty disk = %v, want zeroes", all)
				}
			} else if _, err := c.Extents(t.Context(), Allocation, 0, diskSize); !errors.Is(err, ErrNoContext) {
				t.Errorf("Extents = %v, want %v", err, ErrNoContext)
			}
			exercise(t, c)
			if s.context {
				agree(t, c)
			}
			outside(t, c)
		})
	}
}

// exercise does random things from several goroutines, each to its own part of
// the disk, and compares it with what it should then hold.
func exercise(t *testing.T, c *Client) {
	t.Helper()
	block, _, _ := c.BlockSize()
	const workers = 8
	var wg sync.WaitGroup
	for w := range int64(workers) {
		wg.Go(func() {
			part := diskSize / workers / block * block
			if err := randomly(t, c, w*part, part, block, rand.New(rand.NewPCG(1, uint64(w)))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

// noise is what is written: two megabytes in which no place is like another.
var noise = func() []byte {
	b := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}()

func randomly(t *testing.T, c *Client, base, size, block int64, r *rand.Rand) error {
	shadow, got := make([]byte, size), make([]byte, size)
	for range 40 {
		off := r.Int64N(size/block) * block
		n := (1 + r.Int64N(min(size-off, 700<<10)/block)) * block
		piece := shadow[off : off+n]
		var err error
		switch r.IntN(4) {
		case 0:
			clear(piece)
			err = c.Zero(t.Context(), base+off, n, []ZeroFlags{0, NoHole, FUA}[r.IntN(3)])
		case 1:
			err = c.Read(t.Context(), got[:n], base+off)
			if err == nil && !bytes.Equal(got[:n], piece) {
				err = fmt.Errorf("%d bytes at %d are not what was written", n, base+off)
			}
		default:
			copy(piece, noise[r.IntN(len(noise)/2):][:n])
			err = c.Write(t.Context(), piece, base+off)
		}
		if err != nil {
			return err
		}
	}
	if err := c.Read(t.Context(), got, base); err != nil {
		return err
	}
	if !bytes.Equal(got, shadow) {
		return fmt.Errorf("%d bytes at %d are not what was written", size, base)
	}
	return c.Trim(t.Context(), base, block)
}

// agree checks that what is said to be zero reads so.
func agree(t *testing.T, c *Client) {
	t.Helper()
	disk := make([]byte, diskSize)
	if err := c.Read(t.Context(), disk, 0); err != nil {
		t.Fatal(err)
	}
	all := extents(t, c, Allocation, 0, diskSize)
	if len(all) < 3 {
		t.Errorf("Extents = %v, want data and holes", all)
	}
	off := int64(0)
	for _, e := range all {
		if e.Flags&Zero != 0 && len(bytes.Trim(disk[off:off+e.Length], "\x00")) > 0 {
			t.Errorf("%d bytes at %d are said to be zero, and are not", e.Length, off)
		}
		off += e.Length
	}
}

// extents asks until everything is told.
func extents(t *testing.T, c *Client, name string, off, n int64) (all []Extent) {
	t.Helper()
	for n > 0 {
		some, err := c.Extents(t.Context(), name, off, n)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			t.Fatalf("Extents(%d, %d) = none", off, n)
		}
		for _, e := range some {
			all, off, n = appendExtent(all, e), off+e.Length, n-e.Length
		}
	}
	if n < 0 {
		t.Errorf("Extents reach %d bytes beyond what was asked", -n)
	}
	return all
}

// outside checks that a range that is not on the disk is refused, and costs no
// connection.
func outside(t *testing.T, c *Client) {
	t.Helper()
	block, _, _ := c.BlockSize()
	p := make([]byte, 2*block)
	for name, err := range map[string]error{
		"read":    c.Read(t.Context(), p, diskSize-block),
		"write":   c.Write(t.Context(), p, -block),
		"zero":    c.Zero(t.Context(), diskSize, block, 0),
		"trim":    c.Trim(t.Context(), 0, 1<<62),
		"extents": func() error { _, err := c.Extents(t.Context(), Allocation, 1<<62, 1<<62); return err }(),
	} {
		if !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s outside of the disk = %v, want %v", name, err, syscall.EINVAL)
		}
	}
	if block > 1 {
		if err := c.Read(t.Context(), p[:block], 1); !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), "blocks") {
			t.Errorf("a read out of step with blocks = %v, want %v", err, syscall.EINVAL)
		}
	}
	if err := c.Read(t.Context(), p, 0); err != nil {
		t.Error(err)
	}
}
