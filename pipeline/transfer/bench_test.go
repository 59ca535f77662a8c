package transfer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
)

// BenchmarkDigest is what the digest of each chunk costs, and what the one that
// was not chosen would.
func BenchmarkDigest(b *testing.B) {
	p := make([]byte, leastChunk)
	fill(p)
	for name, sum := range map[string]func(){
		hashName: func() { blake3.Sum256(p) },
		"sha256": func() { sha256.Sum256(p) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(leastChunk)
			for b.Loop() {
				sum()
			}
		})
	}
}

func fill(p []byte) {
	random := rand.NewChaCha8([32]byte{1})
	random.Read(p)
}

// The disk that copies are measured on: 8 GiB of which 2 GiB are data.
const (
	benchSize  = 8 << 30
	benchData  = 2 << 30
	benchRound = 8 // how often each way is measured; the quickest counts
)

// rival is another way to copy, until the target is on stable storage. It has no
// args for formats that it does not know.
type rival struct {
	name  string
	empty bool // the target is made before
	args  func(from, to, format string) []string
}

var rivals = []rival{
	{"qemu-img", false, func(from, to, format string) []string {
		return []string{"qemu-img", "convert", "-W", "-m", "16", "-f", formatOf(from), "-O", format, from, to}
	}},
	{"cp", false, func(from, to, format string) []string {
		if formatOf(from) != format {
			return nil
		}
		return []string{"cp", "--sparse=always", from, to}
	}},
	{"nbdcopy", true, func(from, to, format string) []string {
		return []string{"nbdcopy", "--destination-is-zero", "--", "[", "qemu-nbd", "--read-only", "-f", formatOf(from), from, "]", "[", "qemu-nbd", "-f", format, to, "]"}
	}},
}

func formatOf(path string) string { return filepath.Ext(path)[1:] }

// BenchmarkCopy copies the same disk in turns with us and with what a user would
// take instead, and fails where the quickest of those is too much quicker. Source and
// target are in memory if there is room, so that the copier is measured and not
// the storage.
func BenchmarkCopy(b *testing.B) {
	dir := benchDir(b)
	raw := filepath.Join(dir, "source.raw")
	makeSource(b, raw)
	vmdk := filepath.Join(dir, "source.vmdk")
	mustRun(b, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", raw, vmdk)
	for _, c := range []struct {
		from, format string
		// least is what must not be lost of the speed of the quickest rival, none of
		// which keeps digests; as quick as that is the aim.
		least float64
	}{{raw, disk.Raw, 0.5}, {vmdk, disk.QCOW2, 0.9}} {
		b.Run(formatOf(c.from)+" to "+c.format, func(b *testing.B) {
			for b.Loop() {
				compareWays(b, c.from, filepath.Join(dir, "target."+c.format), c.format, c.least)
			}
		})
	}
}

func benchDir(b *testing.B) string {
	b.Helper()
	var fs unix.Statfs_t
	const shm = "/dev/shm"
	if err := unix.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 4*benchData {
		return b.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "hyper2kvm-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	return dir
}

// makeSource writes data in runs of 1 to 32 MiB with holes between them.
func makeSource(b *testing.B, path string) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	p := make([]byte, 32<<20)
	fill(p)
	for off, left := int64(0), int64(benchData); left > 0 && err == nil; {
		n := min(left, int64(1<<random.IntN(6))<<20)
		_, err = f.WriteAt(p[:n], off)
		p[0]++
		off, left = off+n+3*n, left-n
	}
	if err := errors.Join(err, f.Truncate(benchSize), f.Close()); err != nil {
		b.Fatal(err)
	}
}

func mustRun(b *testing.B, name string, args ...string) {
	b.Helper()
	if _, err := proc.Run(b.Context(), name, args...); err != nil {
		b.Fatal(err)
	}
}

// compareWays measures all ways in turns.
func compareWays(b *testing.B, from, to, format string, least float64) {
	b.Helper()
	best := map[string]time.Duration{}
	note := func(name string, took time.Duration) {
		if was, ok := best[name]; !ok || took < was {
			best[name] = took
		}
	}
	for range benchRound {
		note("ours", ours(b, from, to, format))
		for _, r := range rivals {
			if args := r.args(from, to, format); args != nil {
				if r.empty {
					mustRun(b, "qemu-img", "create", "-q", "-f", format, to, fmt.Sprint(int64(benchSize)))
				}
				note(r.name, theirs(b, to, args))
			}
		}
	}
	quickest := ""
	for name, took := range best {
		b.ReportMetric(took.Seconds(), name+"-s")
		if name != "ours" && (quickest == "" || took < best[quickest]) {
			quickest = name
		}
	}
	ratio := best[quickest].Seconds() / best["ours"].Seconds()
	b.ReportMetric(ratio, "times-the-speed-of-"+quickest)
	if ratio < least {
		b.Errorf("%s takes %v, ours %v: it has %.2f times its speed, want at least %.2f", quickest, best[quickest], best["ours"], ratio, least)
	}
}

func ours(b *testing.B, from, to, format string) time.Duration {
	b.Helper()
	start := time.Now()
	s, err := disk.OpenSource(b.Context(), from, formatOf(from))
	if err != nil {
		b.Fatal(err)
	}
	job := Job{ID: "x", From: s.Export, To: Target{Path: to, Shape: disk.Shape{Format: format}, Size: s.Size}}
	_, err = Parallel{}.Copy(b.Context(), []Job{job}, func(Progress) {})
	took := time.Since(start)
	if err := errors.Join(err, s.Close(), Discard(job.To, "x")); err != nil {
		b.Fatal(err)
	}
	return took
}

func theirs(b *testing.B, to string, args []string) time.Duration {
	b.Helper()
	start := time.Now()
	mustRun(b, args[0], args[1:]...)
	f, err := os.Open(to)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	took := time.Since(start)
	if err := errors.Join(err, os.Remove(to)); err != nil {
		b.Fatal(err)
	}
	return took
}
