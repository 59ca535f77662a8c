// Package schedule tells when windows of the week open and close. It is pure: all is
// worked out from the time that is given, on the clock of that time's location, with
// what its time zone has of summer time.
//
// Windows: some of pipeline/week's; none at all is always open.
package schedule

import (
	"fmt"
	"slices"
	"time"

	"hyper2kvm/pipeline/week"
)

// Parse reads windows as people write them. The error wraps week.ErrWindow.
func Parse(texts []string) ([]week.Window, error) {
	windows := make([]week.Window, len(texts))
	for i, text := range texts {
		w, err := week.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", i+1, err)
		}
		windows[i] = w
	}
	return windows, nil
}

// Open tells whether now is in one of the windows, or there are none.
func Open(now time.Time, windows []week.Window) bool {
	return len(windows) == 0 || slices.ContainsFunc(windows, func(w week.Window) bool { return w.Holds(now) })
}

// Allowed tells whether now is in one of the windows, or there are none, and in none of
// the lockouts.
func Allowed(now time.Time, windows, lockouts []week.Window) bool {
	return Open(now, windows) && !(len(lockouts) > 0 && Open(now, lockouts))
}

// NextAllowed is the first time from now on that is allowed; the zero time if there is
// none.
func NextAllowed(now time.Time, windows, lockouts []week.Window) time.Time {
	both := slices.Concat(windows, lockouts)
	for t := now; t.Before(now.Add(horizon)); t = boundary(t, both) {
		if Allowed(t, windows, lockouts) {
			return t
		}
	}
	return time.Time{}
}

// Next is the first time from now on at which a window is open: now itself if one is.
func Next(now time.Time, windows []week.Window) time.Time {
	return first(now, windows, true)
}

// Closes is the first time from now on at which no window is open: now itself if none
// is. It is the zero time if they never close.
func Closes(now time.Time, windows []week.Window) time.Time {
	return first(now, windows, false)
}

// horizon is how far ahead is looked. A week holds all that windows do, but for what
// a time zone leaps over, which is there again a week later.
const horizon = 5 * 7 * 24 * time.Hour

// first is the first time from now on at which the windows are open, or closed; the
// zero time if there is none.
func first(now time.Time, windows []week.Window, open bool) time.Time {
	for t := now; t.Before(now.Add(horizon)); t = boundary(t, windows) {
		if Open(t, windows) == open {
			return t
		}
	}
	return time.Time{}
}

// boundary is the next time after t at which windows may open or close: where one
// begins or ends, at midnight, and where the zone's clock is set.
func boundary(t time.Time, windows []week.Window) time.Time {
	hour, minute, second := t.Clock()
	clock := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second + time.Duration(t.Nanosecond())
	next := 24 * time.Hour
	for _, w := range windows {
		for _, edge := range []time.Duration{w.From, w.To} {
			if edge > clock {
				next = min(next, edge)
			}
		}
	}
	at := t.Add(next - clock)
	if _, set := t.ZoneBounds(); !set.IsZero() && set.Before(at) {
		return set
	}
	return at
}
