package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/fixers/guest/guesttest"
)

// BenchmarkStart is how long an agent takes until it answers, and the memory that it
// holds when it has nothing to do.
func BenchmarkStart(b *testing.B) {
	folder := b.TempDir()
	started(b, folder, "").stop(b)
	var took time.Duration
	var held int64
	for b.Loop() {
		began := time.Now()
		m := born(b, folder)
		if status := m.get(b, "/migrations", nil); status != 200 {
			b.Fatalf("it answers %d", status)
		}
		took += time.Since(began)
		time.Sleep(time.Second)
		held = max(held, resident(b, m.server.Pid()))
		m.kill(b)
	}
	b.ReportMetric(took.Seconds()*1000/float64(b.N), "ms-to-ready")
	b.ReportMetric(float64(held>>20), "MiB-idle")
}

// resident is a process's memory, in bytes. Source: proc_pid_status(5), VmRSS.
func resident(tb testing.TB, pid int) int64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	var kB int64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if _, err := fmt.Sscanf(rest, "%d kB", &kB); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return kB << 10
}

// BenchmarkCopyBesideClients has a guest copied at 110 MB/s, alone and while 500 clients
// follow the events and one asks without a pause. Most is how many times as long it may
// take.
func BenchmarkCopyBesideClients(b *testing.B) {
	const most, size, clients = 1.10, 700 << 20, 500
	folder := b.TempDir()
	started(b, folder, "").stop(b)
	disk := filepath.Join(folder, "from", "large.raw")
	if err := guesttest.Small(b.Context(), disk, guesttest.SmallFstab); err != nil {
		b.Fatal(err)
	}
	fill(b, disk, size)
	m := born(b, folder)
	b.Cleanup(func() { m.kill(b) })
	var alone, beside float64
	for i := 0; b.Loop(); i++ {
		alone += m.copied(b, fmt.Sprintf("alone%d", i))
		ctx, end := context.WithCancel(b.Context())
		all := m.crowd(ctx, b, clients)
		beside += m.copied(b, fmt.Sprintf("beside%d", i))
		end()
		all.Wait()
	}
	b.ReportMetric(alone/float64(b.N), "s-alone")
	b.ReportMetric(beside/float64(b.N), "s-beside-500-clients")
	b.ReportMetric(beside/alone, "times-alone")
	if beside > most*alone {
		b.Errorf("beside clients a copy takes %.2f times as long, want %.2f at most", beside/alone, most)
	}
}

// fill makes a file so large, with data that nothing makes smaller behind what it has.
func fill(tb testing.TB, path string, size int64) {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		tb.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{}), size-info.Size()); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}

// copied is how long CONVERT takes, in seconds.
func (m *mortal) copied(tb testing.TB, id string) float64 {
	tb.Helper()
	body := fmt.Sprintf(`{"id":%q,"spec":{"name":%q,"source":{"storage":"from","path":"large.raw"},"target":{"storage":"to"},"engine":"direct","limits":["110M"],"test":{"skip":"not part of this"}}}`, id, id)
	if status := m.post(tb, "/migrations", body); status != 202 {
		tb.Fatalf("%s is answered with %d", id, status)
	}
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var v model.Migration
		if m.get(tb, "/migrations/"+id, &v); v.State == model.StateDone {
			if err := os.RemoveAll(filepath.Join(m.folder, "to", id)); err != nil {
				tb.Fatal(err)
			}
			return float64(v.Stages[5].Took)
		}
		if v.State == model.StateFailed || time.Now().After(limit) {
			tb.Fatalf("%s is %+v", id, v)
		}
	}
}

// crowd follows the events many times, and asks for a list again and again.
func (m *mortal) crowd(ctx context.Context, tb testing.TB, clients int) *sync.WaitGroup {
	tb.Helper()
	var all sync.WaitGroup
	open := make(chan bool, clients)
	for range clients {
		all.Go(func() { m.followEvents(ctx, open) })
	}
	for range clients {
		if !<-open {
			tb.Fatal("a stream of events did not open")
		}
	}
	all.Go(func() {
		client := m.local()
		for ctx.Err() == nil {
			r, err := http.NewRequestWithContext(ctx, "GET", "http://appliance/api/v1/migrations", nil)
			if err != nil {
				return
			}
			if reply, err := client.Do(r); err == nil {
				_, _ = io.Copy(io.Discard, reply.Body)
				_ = reply.Body.Close()
			}
		}
	})
	return &all
}

func (m *mortal) followEvents(ctx context.Context, open chan<- bool) {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://appliance/api/v1/events", nil)
	if err != nil {
		open <- false
		return
	}
	reply, err := m.local().Do(r)
	if err != nil {
		open <- false
		return
	}
	defer reply.Body.Close()
	in := bufio.NewScanner(reply.Body)
	open <- in.Scan()
	for in.Scan() { // what is told is for nobody
	}
}
