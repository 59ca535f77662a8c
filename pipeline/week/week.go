// Package week reads windows of the week, as people write them: "mon-fri
// 20:00-06:00". It imports none of our packages.
//
// Window: hours on days, by the clock on the wall. Where that is set forward, what it
// leaps over is not in a window; where it is set back, what it shows twice is there twice.
package week

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrWindow is a window that cannot be understood.
var ErrWindow = errors.New("cannot use the window")

// Window is hours on days of the week. The zero value is always.
type Window struct {
	Days     [7]bool       `json:"days"` // by time.Weekday; none is all
	From, To time.Duration // since midnight; the same for all day; To before From goes over midnight, into a day that need not be in Days
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Parse reads "mon-fri 20:00-06:00", "sat,sun", or "08:00-18:00". The error wraps
// ErrWindow.
func Parse(text string) (w Window, err error) {
	fields := strings.Fields(strings.ToLower(text))
	if len(fields) > 0 && !strings.Contains(fields[0], ":") {
		if err := w.parseDays(fields[0]); err != nil {
			return w, fmt.Errorf("%w %q: %w", ErrWindow, text, err)
		}
		fields = fields[1:]
	} else if len(fields) == 0 {
		return w, fmt.Errorf("%w %q: it is empty: write mon-fri 08:00-18:00", ErrWindow, text)
	}
	switch len(fields) {
	case 0:
	case 1:
		if err := w.parseHours(fields[0]); err != nil {
			return w, fmt.Errorf("%w %q: %w", ErrWindow, text, err)
		}
	default:
		return w, fmt.Errorf("%w %q: write it like mon-fri 08:00-18:00", ErrWindow, text)
	}
	return w, nil
}

func (w *Window) parseDays(text string) error {
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
			w.Days[a] = true
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

func (w *Window) parseHours(text string) error {
	from, to, ok := strings.Cut(text, "-")
	a, errFrom := time.Parse("15:04", from)
	b, errTo := time.Parse("15:04", strings.Replace(to, "24:00", "00:00", 1))
	if !ok || errFrom != nil || errTo != nil {
		return fmt.Errorf("%q are no hours: write 08:00-18:00", text)
	}
	w.From, w.To = sinceMidnight(a), sinceMidnight(b)
	if w.From == w.To && to != "24:00" {
		return fmt.Errorf("%q begins when it ends: write 00:00-24:00 for all day", text)
	}
	return nil
}

func sinceMidnight(t time.Time) time.Duration {
	hour, minute, second := t.Clock()
	return time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second
}

// Holds tells whether now is in the window, by the clock of now's location. A window
// over midnight belongs to the day on which it begins.
func (w Window) Holds(now time.Time) bool {
	at, day := sinceMidnight(now), now.Weekday()
	inside := w.From == w.To || w.From <= at && at < w.To
	if w.To < w.From {
		inside = at >= w.From || at < w.To
		if at < w.To {
			day = (day + 6) % 7
		}
	}
	return inside && (w.Days == [7]bool{} || w.Days[day])
}
