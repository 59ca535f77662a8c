package nbd

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What is measured: a disk of benchSize bytes, benchPiece bytes a request,
// benchFlight requests in flight on one connection. One turn of either says little: what
// the server still writes to its disk may fall into it.
const (
	benchSize   = 1 << 30
	benchPiece  = 1 << 20
	benchFlight = 8
	benchTurns  = 5
)

// benched are servers of benchSize bytes of data.
var benched = []struct {
	name  string
	start func(b *testing.B) Options
}{
	{"nbdkit-memory", func(b *testing.B) Options { o, _ := nbdkit(b, "memory", "1G"); return o }},
	{"qemu-nbd-raw", func(b *testing.B) Options {
		path := filepath.Join(b.TempDir(), "disk")
		run(b, "qemu-img", "create", "-q", "-f", "raw", path, "1G")
		o, _ := qemuNBD(b, "-f", "raw", path)
		return o
	}},
}

// BenchmarkRead reads a disk, and lets nbdcopy do the same with as many requests
// of the same size on as many connections. The metric "of-nbdcopy" is our speed
// by its; 1 is as fast. The others are processor time, which a busy machine
// alters less, ours and its own.
func BenchmarkRead(b *testing.B) {
	for _, s := range benched {
		b.Run(s.name, func(b *testing.B) {
			o := s.start(b)
			c := dial(b, o)
			everyPiece(b, c, c.Write)
			var theirs, ours, theirCPU, ourCPU time.Duration
			b.SetBytes(benchTurns * benchSize)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				for range benchTurns {
					b.StopTimer()
					took, cpu := measured(b, syscall.RUSAGE_CHILDREN, func() { nbdcopy(b, o) })
					theirs, theirCPU = theirs+took, theirCPU+cpu
					b.StartTimer()
					took, cpu = measured(b, syscall.RUSAGE_SELF, func() { everyPiece(b, c, c.Read) })
					ours, ourCPU = ours+took, ourCPU+cpu
				}
			}
			turns := float64(b.N * benchTurns)
			b.ReportMetric(float64(theirs)/float64(ours), "of-nbdcopy")
			b.ReportMetric(float64(ourCPU.Milliseconds())/turns, "cpu-ms/GiB")
			b.ReportMetric(float64(theirCPU.Milliseconds())/turns, "nbdcopy-cpu-ms/GiB")
		})
	}
}

// BenchmarkWrite writes a disk.
func BenchmarkWrite(b *testing.B) {
	for _, s := range benched {
		b.Run(s.name, func(b *testing.B) {
			c := dial(b, s.start(b))
			everyPiece(b, c, c.Write)
			b.SetBytes(benchSize)
			b.ReportAllocs()
			for b.Loop() {
				everyPiece(b, c, c.Write)
			}
		})
	}
}

func nbdcopy(b *testing.B, o Options) {
	b.Helper()
	run(b, "nbdcopy", "--connections=1", "--requests=8", "--request-size=1048576", "nbd+unix:///?socket="+o.Socket, "null:")
}

// measured is the time and the processor time that something takes, of this
// process or of its children.
func measured(b *testing.B, whose int, do func()) (took, cpu time.Duration) {
	b.Helper()
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(whose, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before, began := spent(), time.Now()
	do()
	return time.Since(began), spent() - before
}

// everyPiece does something with every piece of the disk.
func everyPiece(b *testing.B, c *Client, do func(ctx context.Context, p []byte, off int64) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range benchFlight {
		wg.Go(func() {
			p := bytes.Clone(noise[i:][:benchPiece])
			for off := next.Add(benchPiece) - benchPiece; off < c.Size(); off = next.Add(benchPiece) - benchPiece {
				if err := do(b.Context(), p, off); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
