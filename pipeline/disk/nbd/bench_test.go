package nbd

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What is measured: a disk of benchSize bytes, benchPiece bytes a request,
// benchFlight requests in flight on one connection.
const (
	benchSize   = 1 << 30
	benchPiece  = 1 << 20
	benchFlight = 8
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
// by its; 1 is as fast.
func BenchmarkRead(b *testing.B) {
	for _, s := range benched {
		b.Run(s.name, func(b *testing.B) {
			o := s.start(b)
			c := dial(b, o)
			everyPiece(b, c, c.Write)
			var theirs, ours time.Duration
			b.SetBytes(benchSize)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				theirs += nbdcopy(b, o)
				b.StartTimer()
				began := time.Now()
				everyPiece(b, c, c.Read)
				ours += time.Since(began)
			}
			b.ReportMetric(float64(theirs)/float64(ours), "of-nbdcopy")
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

func nbdcopy(b *testing.B, o Options) time.Duration {
	b.Helper()
	need(b, "nbdcopy")
	began := time.Now()
	run(b, "nbdcopy", "--connections=1", "--requests=8", "--request-size=1048576", "nbd+unix:///?socket="+o.Socket, "null:")
	return time.Since(began)
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
