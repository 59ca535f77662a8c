package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"hyper2kvm/fixers/guest"
)

// How long a session lasts, and how many a person has.
const (
	sessionIdle   = 30 * time.Minute // without a request
	sessionLength = 12 * time.Hour
	mostSessions  = 16

	// seenEvery is how often it is written that a session is used, so that it may end
	// up to that earlier.
	seenEvery = time.Minute
	// clocksDiffer is how far ahead another appliance's clock may be.
	clocksDiffer = 5 * time.Minute
)

// Session is one that has begun.
type Session struct {
	Value     guest.Secret // of the cookie
	Principal Principal
}

// session is what is kept of one.
type session struct {
	Hash   string    `json:"hash"` // SHA-256 of the cookie's value
	Holder holder    `json:"holder"`
	Began  time.Time `json:"began"`
	Seen   time.Time `json:"seen"`
}

// ends is when a session ends if it is not used.
func (s session) ends() time.Time {
	idle, length := s.Seen.Add(sessionIdle), s.Began.Add(sessionLength)
	if idle.Before(length) {
		return idle
	}
	return length
}

func (s session) ended(now time.Time) bool {
	return !now.Before(s.ends()) || s.Began.After(now.Add(clocksDiffer)) || s.Seen.After(now.Add(clocksDiffer))
}

// CookieName keeps the cookie to one host, https and all its paths.
//
// Source: RFC 6265bis, section 4.1.3.2.
const CookieName = "__Host-session"

// Cookie hands a session to a browser, until the browser or the session ends. A page of
// another site cannot have it sent: what comes back from an identity provider answers
// with a page that goes on by itself, not with a redirect.
func (s Session) Cookie() *http.Cookie {
	return &http.Cookie{Name: CookieName, Value: string(s.Value), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// NoCookie takes a session from a browser.
func NoCookie() *http.Cookie {
	c := Session{}.Cookie()
	c.MaxAge = -1
	return c
}

// sessionText is whose it is, in the key so that one's sessions can be listed, and 256
// random bits.
var sessionText = regexp.MustCompile(`^([0-9a-f]{32})\.[A-Za-z0-9_-]{43}$`)

// sessionKey is where a session is kept; false is of what is no cookie of ours.
func sessionKey(text string) (string, bool) {
	if len(text) > 100 {
		return "", false
	}
	m := sessionText.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	return sessionPrefix + m[1] + "." + digest(text)[:32], true
}

const sessionPrefix = "sessions."

// whose is the part of the key that all sessions of one have.
func (h holder) whose() string { return digest(h.User + "\n" + h.ID + "\n" + h.External)[:32] }

// begin makes a session.
func (g *Gate) begin(ctx context.Context, from netip.Addr, h holder) (Session, error) {
	var b [32]byte
	rand.Read(b[:])
	text := h.whose() + "." + base64.RawURLEncoding.EncodeToString(b[:])
	key, _ := sessionKey(text)
	if err := g.makeRoom(ctx, sessionPrefix+h.whose()+"."); err != nil {
		return Session{}, err
	}
	now := g.now().UTC()
	if err := g.store.Save(ctx, key, session{digest(text), h, now, now}, 0); err != nil {
		return Session{}, err
	}
	p, err := g.bySession(ctx, key, func(s session) bool { return same(s.Hash, digest(text)) })
	p.From = address(from)
	return Session{guest.Secret(text), p}, err
}

// makeRoom ends those sessions of one that were not used longest.
func (g *Gate) makeRoom(ctx context.Context, prefix string) error {
	keys, err := g.store.List(ctx, prefix)
	if err != nil || len(keys) < mostSessions {
		return err
	}
	seen := map[string]time.Time{}
	for _, key := range keys {
		var s session
		if _, err := g.store.Load(ctx, key, &s); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		seen[key] = s.Seen
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(seen[a].Compare(seen[b]), cmp.Compare(a, b)) })
	for _, key := range keys[:len(keys)-mostSessions+1] {
		if err := g.remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// Session is whose a session's cookie is, or ErrUnauthenticated.
func (g *Gate) Session(ctx context.Context, from netip.Addr, value string) (Principal, error) {
	key, ok := sessionKey(value)
	if !ok {
		return Principal{}, ErrUnauthenticated
	}
	p, err := g.bySession(ctx, key, func(s session) bool { return same(s.Hash, digest(value)) })
	p.From = address(from)
	return p, err
}

// bySession is whose a session is. One whose value was shown now is used by that; nil is
// of one that was shown before.
func (g *Gate) bySession(ctx context.Context, key string, shown func(session) bool) (Principal, error) {
	var s session
	revision, err := g.store.Load(ctx, key, &s)
	if errors.Is(err, ErrNotFound) {
		return Principal{}, ErrUnauthenticated
	}
	if err != nil {
		return Principal{}, err
	}
	now := g.now()
	if s.ended(now) || shown != nil && !shown(s) {
		return Principal{}, ErrUnauthenticated
	}
	p, err := g.byHolder(ctx, s.Holder)
	if err != nil {
		return Principal{}, err
	}
	if shown != nil && now.Sub(s.Seen) >= seenEvery {
		s.Seen = now.UTC()
		_ = g.store.Save(ctx, key, s, revision) // else it ends earlier; if it has ended it stays so
	}
	p.By, p.key, p.Until = BySession, key, s.Began.Add(sessionLength)
	return p, nil
}

// Logout ends the session of a principal.
func (g *Gate) Logout(ctx context.Context, by Principal) error {
	if by.By != BySession {
		return ErrForbidden
	}
	err := g.remove(ctx, by.key)
	g.record(ctx, Entry{Principal: by, Action: "logout"}, err)
	return err
}
