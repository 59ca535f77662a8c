package auth

import (
	"context"
	"crypto/sha256"
	"sync/atomic"
	"time"
)

// Cheap makes passwords cheap to try, and counts how often one is hashed. Before is
// called at the start of each.
func (g *Gate) Cheap(before func()) *atomic.Int64 {
	var n atomic.Int64
	g.hash.derive = func(password, salt []byte, _ cost) []byte {
		n.Add(1)
		if before != nil {
			before()
		}
		sum := sha256.Sum256(append(append([]byte{}, password...), salt...))
		return sum[:]
	}
	return &n
}

// HashForTest is what is kept of a password, and whether that fits another.
func (g *Gate) HashForTest(ctx context.Context, password string) (string, error) {
	return g.hash.keep(ctx, password)
}

func (g *Gate) FitsForTest(ctx context.Context, kept, password string) (bool, error) {
	return g.hash.fits(ctx, kept, password)
}

// What is bounded.
const (
	Fresh         = fresh
	SessionIdle   = sessionIdle
	SessionLength = sessionLength
	MostSessions  = mostSessions
	AtOnce        = atOnce
	Waiting       = waiting
	MostTracked   = mostTracked
)

var (
	CheckPassword = checkPassword
	ParseCode     = parseCode
	ParseHash     = func(text string) (string, error) { h, err := parseHash(text); return h.String(), err }
	SessionKey    = sessionKey
	Network       = network
	NewCode       = newCode
)

// Tracked is how many addresses, names and pairs are remembered.
func (g *Gate) Tracked() int {
	l := g.limits
	return max(l.sources.order.Len(), l.people.order.Len(), l.pairs.order.Len(), l.noises.order.Len())
}

// Wait is how long a person has to wait at an address after some failures in a row.
func Wait(failures int) time.Duration {
	p := pair{failures: failures}
	return p.wait(p.last)
}
