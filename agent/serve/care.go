package serve

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// sweep is how often what has ended is removed.
const sweep = 5 * time.Minute

// care does what is done again and again, until ctx ends: it removes what has ended, and
// tells systemd that all is well as long as the engine answers.
func (a *agent) care(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		a.log.Warn("systemd's watchdog is not known", "err", err)
	}
	go repeat(ctx, sweep, func() {
		if err := a.gate.Sweep(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("what has ended could not be removed", "err", err)
		}
		a.sweepUploads()
		a.sweepDownloads(ctx)
	})
	go a.disks.Watch(ctx)
	a.inform(ctx)
	for _, w := range a.settings.Watch {
		go a.watchFolder(w).Run(ctx)
	}
	if every > 0 {
		go repeat(ctx, every/3, func() { a.alive(ctx, every) })
	}
}

func (a *agent) alive(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit/3)
	defer cancel()
	if err := a.engine.Ready(ctx); err != nil {
		a.log.Error("the engine does not answer, and systemd is not told that all is well", "err", err)
		return
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyWatchdog); err != nil {
		a.log.Warn("systemd's watchdog was not told", "err", err)
	}
}

func repeat(ctx context.Context, every time.Duration, do func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}
