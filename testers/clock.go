package testers

import (
	"fmt"
	"time"

	"hyper2kvm/testers/probe/wire"
)

const (
	// maxClockOff is how far a guest's clock may be from ours. A guest that takes
	// its hardware's clock for local time is off by its time zone, as it was
	// before, until a time server tells it; no zone is a day from UTC.
	maxClockOff = 24 * time.Hour
	// maxClockJump is how far a clock may move against the time since the boot,
	// both read within one report: a program that loses its turn on an emulated
	// CPU in between takes a second or two.
	maxClockJump = 5 * time.Second
)

// clockKept asks whether the guest's clock is right and goes on. No time server
// is in reach, so nobody sets it once the boot target is reached.
func clockKept(_ Expect, b Boot) (bool, string) {
	last, ok := b.Last()
	if !ok {
		return false, "no report"
	}
	now := time.Unix(last.Clock, 0)
	if off := now.Sub(last.At).Abs(); off > maxClockOff {
		return false, fmt.Sprintf("the clock says %s at %s", now.UTC().Format(time.DateTime), last.At.UTC().Format(time.DateTime))
	}
	booted := sinceBoot(last.Report)
	for _, r := range b.Reports {
		if jump := (sinceBoot(r.Report) - booted).Abs(); r.Kind == wire.Reached && jump > maxClockJump {
			return false, fmt.Sprintf("the clock was set by %v between two reports", jump.Round(time.Second))
		}
	}
	return true, fmt.Sprintf("it is %s, and went on with the time since the boot", now.UTC().Format(time.DateTime))
}

// sinceBoot is when the guest was booted by its own clock, as Unix time: the
// same in all reports of a boot unless somebody set the clock.
func sinceBoot(r wire.Report) time.Duration {
	return time.Duration((float64(r.Clock) - r.Uptime) * float64(time.Second))
}
