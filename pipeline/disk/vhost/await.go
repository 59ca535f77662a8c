package vhost

import (
	"context"
	"fmt"
	"time"
)

// patience is how long a request whose context has ended is waited for: it cannot
// be taken back.
const patience = 2 * time.Second

// await returns when a request was answered, or the device is lost.
func (d *Device) await(ctx context.Context, slot int) error {
	for asked := time.Now(); ; {
		var overdue <-chan time.Time
		if d.Silence > 0 {
			overdue = time.After(max(d.Silence-d.quiet(asked), time.Millisecond))
		}
		select {
		case <-d.answers[slot]:
			return nil
		case <-d.lost:
			return d.err
		case <-overdue:
			if d.quiet(asked) >= d.Silence {
				d.lose(fmt.Errorf("%w: it owes an answer and gave none for %v", ErrSilent, d.Silence))
			}
		case <-ctx.Done():
			select {
			case <-d.answers[slot]:
				return nil
			case <-d.lost:
				return d.err
			case <-time.After(patience):
				d.lose(context.Cause(ctx))
				return d.err
			}
		}
	}
}

// quiet is for how long the device has given no answer to anybody, since one was asked
// for at some time.
func (d *Device) quiet(asked time.Time) time.Duration {
	return min(time.Since(asked), time.Since(d.began)-time.Duration(d.answered.Load()))
}
