package auth

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// limits are of attempts to log in, as the package's comment tells.
type limits struct {
	mu      sync.Mutex
	sources table[bucket] // by address
	people  table[bucket] // by name
	pairs   table[pair]
	noises  table[bucket] // by address
}

// rates of the buckets.
var (
	ofSource = rate{10, 6 * time.Second}
	ofPerson = rate{30, 2 * time.Second}
	ofNoise  = rate{10, 6 * time.Second}
)

const (
	freeFailures = 3
	firstWait    = time.Second
	longestWait  = 5 * time.Minute
	forgotten    = 30 * time.Minute

	mostTracked = 4096 // entries of each table, 1 MiB in all
)

func newLimits() *limits {
	return &limits{sources: newTable[bucket](), people: newTable[bucket](), pairs: newTable[pair](), noises: newTable[bucket]()}
}

// pair is a person at an address.
type pair struct {
	failures int
	last     time.Time
	known    bool // has logged in
}

// wait is how long the next attempt has to wait.
func (p *pair) wait(now time.Time) time.Duration {
	over, passed := p.failures-freeFailures, max(0, now.Sub(p.last))
	if over < 0 || passed > forgotten {
		return 0
	}
	wait := longestWait
	if over < 16 {
		wait = min(wait, firstWait<<over)
	}
	return wait - passed
}

// attempt is one that may be made, and is to be ended.
type attempt struct {
	limits         *limits
	source, person string
	counted        bool // for the person
}

// Attempt counts one to get in by a secret that is not a person's, as those to log in
// are, or returns a TooManyError. It is ended with ErrNoCode if the secret was wrong, and
// with nil if it was right.
func (g *Gate) Attempt(from netip.Addr) (ended func(error), err error) {
	a, err := g.limits.begin(g.now(), from, "")
	return func(err error) { a.ended(g.now(), err) }, err
}

// begin takes what an attempt costs, or returns a TooManyError.
func (l *limits) begin(now time.Time, from netip.Addr, name string) (attempt, error) {
	if !userName.MatchString(name) {
		name = ""
	}
	a := attempt{limits: l, source: network(from), person: name}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pairs.at(a.pair())
	if wait := p.wait(now); wait > 0 {
		return a, &TooManyError{wait}
	}
	source, person := l.sources.at(a.source), l.people.at(a.person)
	if wait := source.take(now, ofSource); wait > 0 {
		return a, &TooManyError{wait}
	}
	if p.known || name == "" {
		return a, nil
	}
	if wait := person.take(now, ofPerson); wait > 0 {
		source.back()
		return a, &TooManyError{wait}
	}
	a.counted = true
	return a, nil
}

// ended tells how an attempt ended. What was not refused as wrong is not held against
// anybody, but is not given back either.
func (a attempt) ended(now time.Time, err error) {
	l := a.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pairs.at(a.pair())
	switch {
	case err == nil:
		*p = pair{known: true}
		l.sources.at(a.source).back()
		if a.counted {
			l.people.at(a.person).back()
		}
	case errors.Is(err, ErrWrong) || errors.Is(err, ErrNoCode):
		if now.Sub(p.last) > forgotten {
			p.failures = 0
		}
		p.failures, p.last = p.failures+1, now
	}
}

func (a attempt) pair() string { return a.person + " " + a.source }

// noise tells whether another refusal from an address is worth an entry.
func (l *limits) noise(now time.Time, from string) bool {
	addr, _ := netip.ParseAddr(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noises.at(network(addr)).take(now, ofNoise) == 0
}

// network is whom an address belongs to: hosts have 64 bits of IPv6 for themselves.
func network(from netip.Addr) string {
	from = from.Unmap().WithZone("")
	if !from.Is6() {
		return from.String()
	}
	prefix, err := from.Prefix(64)
	if err != nil {
		return from.String()
	}
	return prefix.String()
}

// address is how an address is shown.
func address(from netip.Addr) string {
	if !from.IsValid() {
		return ""
	}
	return from.Unmap().String()
}

// rate is how many at once, and how long until one more.
type rate struct {
	burst float64
	every time.Duration
}

// bucket is what has been used of a rate.
type bucket struct {
	used float64
	at   time.Time
}

// take uses one, or tells how long until there is one.
func (b *bucket) take(now time.Time, r rate) time.Duration {
	passed := max(0, now.Sub(b.at))
	b.used, b.at = max(0, b.used-float64(passed)/float64(r.every)), now
	if over := b.used + 1 - r.burst; over > 0 {
		return max(1, time.Duration(over*float64(r.every)))
	}
	b.used++
	return 0
}

// back gives one back.
func (b *bucket) back() { b.used = max(0, b.used-1) }

// table holds a bounded number of values; the one that was not asked for longest goes.
type table[V any] struct {
	order *list.List // newest first, of *row[V]
	rows  map[string]*list.Element
}

type row[V any] struct {
	key   string
	value V
}

func newTable[V any]() table[V] {
	return table[V]{list.New(), map[string]*list.Element{}}
}

// at is the value at a key, made if it is not there.
func (t table[V]) at(key string) *V {
	if e := t.rows[key]; e != nil {
		t.order.MoveToFront(e)
		return &e.Value.(*row[V]).value
	}
	if t.order.Len() >= mostTracked {
		oldest := t.order.Remove(t.order.Back()).(*row[V])
		delete(t.rows, oldest.key)
	}
	r := &row[V]{key: key}
	t.rows[key] = t.order.PushFront(r)
	return &r.value
}
