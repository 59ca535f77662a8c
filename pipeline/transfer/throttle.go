package transfer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	bucket *rate.Limiter
}

// burst is what may be read at once after a pause.
const burst = 4 << 20

func newThrottle(limits []Limit) *throttle {
	return &throttle{limits, time.Now, rate.NewLimiter(rate.Inf, burst)}
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

// wait returns when n bytes more may be read.
func (t *throttle) wait(ctx context.Context, n int64) error {
	for n > 0 {
		if r := t.rate(); r != t.bucket.Limit() {
			t.bucket.SetLimit(r)
		}
		piece := min(n, burst)
		if err := t.bucket.WaitN(ctx, int(piece)); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		}
		n -= piece
	}
	return nil
}
