package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// As many disks as like read through one host, each several pieces at a time: never more
// than the budget at once.
func TestAHostsBudgetIsKeptAndShared(t *testing.T) {
	b := newBudgets(alone(t))
	const readers, reads = 3, 40
	var group sync.WaitGroup
	var mu sync.Mutex
	var bytes, mostSeen int64
	under, most := map[int]int{}, 0
	for disk := range 20 {
		for range readers {
			group.Go(func() {
				for range reads {
					give, err := b.take(t.Context(), "esx1", disk, 3<<20)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					under[disk]++
					bytes += 3 << 20
					most, mostSeen = max(most, len(under)), max(mostSeen, bytes)
					mu.Unlock()
					time.Sleep(10 * time.Microsecond)
					mu.Lock()
					if under[disk]--; under[disk] == 0 {
						delete(under, disk)
					}
					bytes -= 3 << 20
					mu.Unlock()
					give()
					give() // once
				}
			})
		}
	}
	group.Wait()
	if most > mostDisks || most < 2 || mostSeen > mostBytes || mostSeen < mostBytes/2 {
		t.Errorf("%d disks and %d bytes at once", most, mostSeen)
	}
	if len(b.hosts) > 0 {
		t.Errorf("%d hosts are remembered", len(b.hosts))
	}
}

// alone is a machine's name that no other test has.
func alone(t *testing.T) string { return fmt.Sprint(t.Name(), os.Getpid(), " ") }

// waiting returns when so many reads wait for a host.
func (b *budgets) waiting(t *testing.T, host string, n int) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		now := 0
		if h := b.hosts[host]; h != nil {
			now = len(h.queue)
		}
		b.mu.Unlock()
		if now == n {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%d reads wait for %s, want %d", now, host, n)
		}
	}
}

// None waits while others have turn after turn: of reads that take the whole budget, one
// begins at a time, in the order in which they came.
func TestADiskThatAsksOftenHasNoMoreTurns(t *testing.T) {
	b := newBudgets(alone(t))
	first := must(b.take(t.Context(), "esx1", 0, mostBytes))(t)
	var group sync.WaitGroup
	var came, began []int
	for n := range 20 {
		disk := 0 // each other time
		if n%2 == 1 {
			disk = n
		}
		came = append(came, disk)
		group.Go(func() {
			give, err := b.take(t.Context(), "esx1", disk, mostBytes)
			if err != nil {
				t.Error(err)
				return
			}
			began = append(began, disk)
			give()
		})
		b.waiting(t, "esx1", n+1)
	}
	first()
	group.Wait()
	if !slices.Equal(began, came) {
		t.Errorf("disks began in the order %v, want %v", began, came)
	}
}

// Reads begin in the order in which they came, also if a later one would fit in before.
func TestTheNinthDiskWaitsAndIsNext(t *testing.T) {
	b := newBudgets(alone(t))
	take := func(ctx context.Context, host string, disk any, n int64) func() {
		t.Helper()
		return must(b.take(ctx, host, disk, n))(t)
	}
	var gives []func()
	for i := range mostDisks {
		gives = append(gives, take(t.Context(), "esx1", i, 1))
	}
	take(t.Context(), "esx1", 0, 1)()   // another piece of a disk that is read
	take(t.Context(), "esx2", 100, 1)() // another host
	take(t.Context(), "", 100, 1<<40)() // no host
	why := errors.New("not wanted any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	if _, err := b.take(ctx, "esx1", 9, 1); !errors.Is(err, why) {
		t.Errorf("the ninth: %v", err)
	}
	var order atomic.Int64
	var ninth, behind int64
	var group sync.WaitGroup
	wait := func(disk int, at *int64) {
		group.Go(func() {
			give := take(t.Context(), "esx1", disk, 1)
			*at = order.Add(1)
			give()
		})
	}
	wait(9, &ninth)
	b.waiting(t, "esx1", 1)
	wait(0, &behind) // would fit, and waits all the same
	b.waiting(t, "esx1", 2)
	if order.Load() != 0 {
		t.Error("somebody did not wait")
	}
	gives[1]()
	group.Wait()
	if ninth == 0 || behind == 0 {
		t.Errorf("the ninth was number %d, who came behind it %d", ninth, behind)
	}
	gives[2]()
	large := take(t.Context(), "esx3", 1, 1<<40) // more than the budget is all of it
	ctx, cancel = context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	if _, err := b.take(ctx, "esx3", 1, 1); !errors.Is(err, why) {
		t.Errorf("beside all of a budget: %v", err)
	}
	large()
}

// Who leaves the queue's head lets the next one in.
func TestWhoLeavesTheQueueHoldsNobodyUp(t *testing.T) {
	b := newBudgets(alone(t))
	half := must(b.take(t.Context(), "esx1", 1, mostBytes/2))(t)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := b.take(ctx, "esx1", 2, mostBytes); err == nil {
			t.Error("more than there is")
		}
	})
	b.waiting(t, "esx1", 1)
	group.Go(func() { must(b.take(t.Context(), "esx1", 3, 1))(t)() })
	b.waiting(t, "esx1", 2)
	cancel()
	group.Wait()
	half()
	if len(b.hosts) > 0 {
		t.Errorf("%d hosts are remembered", len(b.hosts))
	}
}

// Two processes that read through one host have one budget, and both get on: also one that
// needs all of it at once beside one that never stops.
func TestProcessesShareAHostsBudget(t *testing.T) {
	busy, other := newBudgets(alone(t)), newBudgets(alone(t))
	var under, most atomic.Int64
	read := func(b *budgets, disk int, bytes int64) {
		give, err := b.take(t.Context(), "esx1", disk, bytes)
		if err != nil {
			t.Error(err)
			return
		}
		now := under.Add(bytes)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		time.Sleep(100 * time.Microsecond)
		under.Add(-bytes)
		give()
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	for disk := range 12 {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					read(busy, disk, 3<<20)
				}
			}
		})
	}
	for range 20 {
		read(other, 100, mostBytes)
		read(other, 100, 1<<20)
	}
	close(done)
	group.Wait()
	if got := most.Load(); got > mostBytes || got < mostBytes/2 {
		t.Errorf("%d bytes at once", got)
	}
	if len(busy.hosts)+len(other.hosts) > 0 {
		t.Errorf("%d and %d hosts are remembered", len(busy.hosts), len(other.hosts))
	}
}
