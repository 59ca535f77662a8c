package transfer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// ErrLimit is a limit that cannot be understood.
var ErrLimit = errors.New("cannot use the limit")

// Limit is how fast a source may be read, always or in a window of the week.
// The first of several limits whose window it is holds.
type Limit struct {
	Rate     int64         `json:"rate"` // bytes a second; zero: as fast as can be
	Days     [7]bool       `json:"days"` // by time.Weekday; none is all
	From, To time.Duration // since midnight, local time; both zero for all day; To before From goes over midnight
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

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
	fields := strings.Fields(strings.ToLower(when))
	if len(fields) > 0 && !strings.Contains(fields[0], ":") {
		if err := l.parseDays(fields[0]); err != nil {
			return l, fmt.Errorf("%w %q: %w", ErrLimit, text, err)
		}
		fields = fields[1:]
	}
	switch len(fields) {
	case 0:
	case 1:
		if err := l.parseHours(fields[0]); err != nil {
			return l, fmt.Errorf("%w %q: %w", ErrLimit, text, err)
		}
	default:
		return l, fmt.Errorf("%w %q: write it like mon-fri 08:00-18:00=20M", ErrLimit, text)
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

func (l *Limit) parseDays(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		first, end, isRange := strings.Cut(part, "-")
		if !isRange {
			end = first
		}
		a, b := weekday(first), weekday(end)
		if a < 0 || b < 0 {
			return fmt.Errorf("%q are no days: write mon-fri or sat,sun", text)
		}
		for ; ; a = (a + 1) % 7 {
			l.Days[a] = true
			if a == b {
				break
			}
		}
	}
	return nil
}

func weekday(name string) int {
	for i, d := range weekdays {
		if d == name {
			return i
		}
	}
	return -1
}

func (l *Limit) parseHours(text string) error {
	from, to, ok := strings.Cut(text, "-")
	a, errFrom := time.Parse("15:04", from)
	b, errTo := time.Parse("15:04", strings.Replace(to, "24:00", "00:00", 1))
	if !ok || errFrom != nil || errTo != nil {
		return fmt.Errorf("%q are no hours: write 08:00-18:00", text)
	}
	l.From, l.To = sinceMidnight(a), sinceMidnight(b)
	return nil
}

func sinceMidnight(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
}

// holds tells whether it is the limit's time. A window over midnight belongs to
// the day on which it begins.
func (l Limit) holds(now time.Time) bool {
	at, day := sinceMidnight(now), now.Weekday()
	inside := l.From == l.To || l.From <= at && at < l.To
	if l.To < l.From {
		inside = at >= l.From || at < l.To
		if at < l.To {
			day = (day + 6) % 7
		}
	}
	return inside && (l.Days == [7]bool{} || l.Days[day])
}

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
		if l.holds(t.now()) {
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
