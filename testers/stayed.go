package testers

import (
	"fmt"
	"slices"
	"time"

	"hyper2kvm/testers/lan"
)

// Stayed tells whether the last boot of a session was well for as long as it is
// to be watched, and was heard of from inside and outside after that: what was
// good once may be over, for services start late and kernels panic under them.
func Stayed(e Expect, s Session) (bool, string) {
	b := s.Boots[len(s.Boots)-1]
	if b.Up.IsZero() || s.Watch <= 0 {
		return false, "it was not well at the end"
	}
	until := b.Up.Add(s.Watch)
	if b.Seen.Before(until) {
		return false, fmt.Sprintf("it was up for %.0f s, less than the %.0f s that it is watched", b.Seen.Sub(b.Up).Seconds(), s.Watch.Seconds())
	}
	if r, ok := b.Last(); s.Probe && (!ok || r.At.Before(until)) {
		return false, fmt.Sprintf("it came up and fell silent: the probe has not reported for %.0f s", b.Seen.Sub(r.At).Seconds())
	}
	if silent := silentSince(e, b, until); silent != "" {
		return false, "it came up and fell silent: " + silent
	}
	return true, fmt.Sprintf("well for %.0f s since it was up", b.Seen.Sub(b.Up).Seconds())
}

func silentSince(e Expect, b Boot, since time.Time) string {
	var silent []string
	for _, want := range e.NICs {
		i := slices.IndexFunc(b.Network, func(w lan.Witness) bool { return w.MAC == want.MAC })
		if i < 0 {
			continue // network-witnessed-outside tells
		}
		for _, a := range b.Network[i].Silent(want, since) {
			silent = append(silent, fmt.Sprintf("%v does not answer any more", a))
		}
	}
	return sentence(silent)
}
