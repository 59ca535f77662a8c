package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hyper2kvm/pipeline/week"
)

// ErrLimit is a limit that cannot be understood.
var ErrLimit = errors.New("cannot use the limit")

// Limit is how fast a source may be read, always or in a window of the week, of the
// local time. The first of several limits whose window it is holds.
type Limit struct {
	Rate int64 `json:"rate"` // bytes a second; zero: as fast as can be
	week.Window
}

// ParseLimit reads "50M", "08:00-18:00=20M" or "mon-fri 08:00-18:00=20M": a rate
// in bytes a second, with K, M and G for powers of 1024 and "unlimited" for none.
func ParseLimit(text string) (l Limit, err error) {
	when, amount, found := strings.Cut(text, "=")
	if !found {
		when, amount = "", text
	}
	if l.Rate, err = parseRate(amount); err != nil {
		return l, fmt.Errorf("%w %q: %w", ErrLimit, text, err)
	}
	if !found {
		return l, nil
	}
	if l.Window, err = week.Parse(when); err != nil {
		return l, fmt.Errorf("%w %q: %w", ErrLimit, text, err)
	}
	return l, nil
}

func parseRate(text string) (int64, error) {
	text = strings.TrimSpace(strings.ToUpper(text))
	if text == "UNLIMITED" {
		return 0, nil
	}
	n, err := ParseSize(strings.TrimSuffix(text, "B/S"))
	if err != nil {
		return 0, fmt.Errorf("%q is no rate: write bytes a second, such as 50M, or unlimited", text)
	}
	return n, nil
}

// ParseSize reads a number of bytes, with K, M, G and T for powers of 1024.
func ParseSize(text string) (int64, error) {
	number, unit := strings.ToUpper(text), int64(1)
	if n := len(number); n > 0 {
		if i := strings.IndexByte("KMGT", number[n-1]); i >= 0 {
			number, unit = number[:n-1], int64(1)<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<62/unit {
		return 0, fmt.Errorf("%q is no size: write bytes, such as 65536, or 64K", text)
	}
	return n * unit, nil
}

// Pace is what holds all that ask it back to limits, together: it returns when so many
// bytes more may be read.
func Pace(limits []Limit) func(ctx context.Context, n int64) error { return newThrottle(limits).wait }

// throttle holds back what reads a source, all disks together.
type throttle struct {
	limits []Limit
	now    func() time.Time

	mu     sync.Mutex
	bucket *rate.Limiter // of the limit that held when it was last looked
}

const (
	// burst is what may be read at once after a pause.
	burst = 4 << 20
	// lookAgain is how often whoever waits looks whether another limit holds.
	lookAgain = time.Second
)

func newThrottle(limits []Limit) *throttle {
	return &throttle{limits: limits, now: time.Now, bucket: rate.NewLimiter(rate.Inf, burst)}
}

// rate is what holds now.
func (t *throttle) rate() rate.Limit {
	for _, l := range t.limits {
		if l.Holds(t.now()) {
			if l.Rate == 0 {
				return rate.Inf
			}
			return rate.Limit(l.Rate)
		}
	}
	return rate.Inf
}

// held is the bucket of the limit that holds now. With another limit comes another
// bucket: a wait that began in the one before it is begun anew.
func (t *throttle) held() *rate.Limiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.rate(); r != t.bucket.Limit() {
		t.bucket = rate.NewLimiter(r, burst)
	}
	return t.bucket
}

// wait returns when n bytes more may be read.
func (t *throttle) wait(ctx context.Context, n int64) error {
	for n > 0 {
		piece := min(n, burst)
		if err := t.piece(ctx, int(piece)); err != nil {
			return err
		}
		n -= piece
	}
	return nil
}

// errOtherLimit ends a wait that began before another limit held.
var errOtherLimit = errors.New("another limit holds")

// piece is wait of no more than the burst.
func (t *throttle) piece(ctx context.Context, n int) error {
	for {
		bucket := t.held()
		if bucket.AllowN(time.Now(), n) {
			return context.Cause(ctx)
		}
		inner, stop := context.WithCancelCause(ctx)
		go t.watch(inner, bucket, stop)
		err := bucket.WaitN(inner, n)
		stop(nil)
		if err == nil || !errors.Is(context.Cause(inner), errOtherLimit) {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
}

// watch ends a wait in a bucket when that is no longer the one that holds.
func (t *throttle) watch(ctx context.Context, bucket *rate.Limiter, end context.CancelCauseFunc) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if t.held() != bucket {
				end(errOtherLimit)
			}
		case <-ctx.Done():
			return
		}
	}
}
