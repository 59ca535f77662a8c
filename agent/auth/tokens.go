package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"hyper2kvm/fixers/guest"
)

// How long a token lasts, and how many there are.
const (
	DefaultTokenLife = 90 * 24 * time.Hour
	LongestTokenLife = 366 * 24 * time.Hour

	mostTokens = 1000
	usedEvery  = time.Hour           // it is written when a token was used last
	keptFor    = 30 * 24 * time.Hour // it is shown that a token has run out
)

// Token is what is shown of one.
type Token struct {
	ID      string
	Name    string
	Owner   string
	Role    Role // at most: its owner's counts if that is less
	Scopes  []Scope
	Created time.Time
	Expires time.Time
	Used    time.Time // last, to the hour; zero: never
}

// NewToken is what is asked for.
type NewToken struct {
	Name   string
	Role   Role          // not above the creator's
	Scopes []Scope       // none: all that the role may, but for access:write
	Life   time.Duration // zero: DefaultTokenLife
}

// token is what is kept of one.
type token struct {
	Hash    string    `json:"hash"` // SHA-256 of the text
	Name    string    `json:"name"`
	Owner   string    `json:"owner"`
	Holder  holder    `json:"holder"`
	Scopes  []Scope   `json:"scopes,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`
}

const (
	tokenMark   = "h2k_" // for people, and for programs that look for leaked ones
	tokenPrefix = "tokens."
	idSize      = 20 // characters of the SHA-256
)

var (
	tokenCoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	tokenText   = regexp.MustCompile(`^h2k_[a-z2-7]{52}$`)
	tokenID     = regexp.MustCompile(`^[0-9a-f]{20}$`)
	tokenName   = regexp.MustCompile(`^[\pL\pN][\pL\pN ._:@/-]{0,62}$`)
)

// Bearer is the token of an Authorization header, or false.
//
// Source: RFC 6750, section 2.1; the scheme is in any case, RFC 9110, section 11.1.
func Bearer(header string) (string, bool) {
	scheme, text, _ := strings.Cut(header, " ")
	text = strings.Trim(text, " ")
	return text, strings.EqualFold(scheme, "Bearer") && tokenText.MatchString(text)
}

// CreateToken makes a token of the one who asks, which ends when they are removed, and
// is suspended while they are disabled. Nothing is known of people of a provider, nor of
// processes of this machine, between their requests: their tokens run until they expire
// or are revoked. The text is shown once.
func (g *Gate) CreateToken(ctx context.Context, by Principal, n NewToken) (guest.Secret, Token, error) {
	text, t, err := g.createToken(ctx, by, n)
	g.record(ctx, Entry{Principal: by, Action: "token.create", Target: n.Name, Detail: fmt.Sprint(n.Role, " ", n.Scopes)}, err)
	return text, t, err
}

func (g *Gate) createToken(ctx context.Context, by Principal, n NewToken) (guest.Secret, Token, error) {
	n.Life = cmp.Or(n.Life, DefaultTokenLife)
	if err := n.check(by); err != nil {
		return nil, Token{}, err
	}
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return nil, Token{}, err
	}
	if err := a.permits(by, n.Role, "", g.now()); err != nil {
		return nil, Token{}, fmt.Errorf("%w: a token's role is not above its creator's", ErrForbidden)
	}
	if err := g.roomForToken(ctx); err != nil {
		return nil, Token{}, err
	}
	var b [32]byte
	rand.Read(b[:])
	text, now := tokenMark+tokenCoding.EncodeToString(b[:]), g.now().UTC()
	h := by.holder
	h.Stamp, h.Most = "", n.Role
	t := token{digest(text), n.Name, by.Name, h, n.Scopes, now, now.Add(n.Life), time.Time{}}
	id := t.Hash[:idSize]
	return guest.Secret(text), t.shown(id), g.store.Save(ctx, tokenPrefix+id, t, 0)
}

func (n NewToken) check(by Principal) error {
	switch {
	case by.By == ByToken:
		return fmt.Errorf("%w: a token makes no tokens", ErrForbidden)
	case !tokenName.MatchString(n.Name):
		return fmt.Errorf("%w: a token's name has 1 to 63 letters, digits, blanks and ._:@/-, and begins with a letter or digit", ErrInput)
	case n.Life < time.Minute || n.Life > LongestTokenLife:
		return fmt.Errorf("%w: a token lasts a minute at least and 366 days at most", ErrInput)
	case !n.Role.known():
		return fmt.Errorf("%w: a token needs a role", ErrInput)
	case len(n.Scopes) > 2*len(Resources):
		return fmt.Errorf("%w: there are not that many scopes", ErrInput)
	}
	for _, s := range n.Scopes {
		if _, err := ParseScope(string(s)); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gate) roomForToken(ctx context.Context) error {
	keys, err := g.store.List(ctx, tokenPrefix)
	if err == nil && len(keys) >= mostTokens {
		return fmt.Errorf("%w: there are %d tokens: revoke some", ErrInput, len(keys))
	}
	return err
}

func (t token) shown(id string) Token {
	return Token{id, t.Name, t.Owner, t.Holder.Most, t.Scopes, t.Created, t.Expires, t.Used}
}

// Token is whose a token is, or ErrUnauthenticated.
func (g *Gate) Token(ctx context.Context, from netip.Addr, text string) (Principal, error) {
	p, err := g.token(ctx, text)
	p.From = address(from)
	if errors.Is(err, ErrUnauthenticated) {
		g.refuse(ctx, Entry{Principal: Principal{From: p.From}, Action: "token.use"}, err)
	}
	return p, err
}

func (g *Gate) token(ctx context.Context, text string) (Principal, error) {
	if !tokenText.MatchString(text) {
		return Principal{}, ErrUnauthenticated
	}
	hash := digest(text)
	return g.byToken(ctx, tokenPrefix+hash[:idSize], func(t token) bool { return same(t.Hash, hash) })
}

// byToken is whose a token is. One whose text was shown now is used by that; nil is of
// one that was shown before.
func (g *Gate) byToken(ctx context.Context, key string, shown func(token) bool) (Principal, error) {
	var t token
	revision, err := g.store.Load(ctx, key, &t)
	if errors.Is(err, ErrNotFound) {
		return Principal{}, ErrUnauthenticated
	}
	if err != nil {
		return Principal{}, err
	}
	now := g.now()
	if !now.Before(t.Expires) || shown != nil && !shown(t) {
		return Principal{}, ErrUnauthenticated
	}
	p, err := g.byHolder(ctx, t.Holder)
	if err != nil {
		return Principal{}, err
	}
	if hour := now.UTC().Truncate(usedEvery); shown != nil && hour.After(t.Used) {
		t.Used = hour
		_ = g.store.Save(ctx, key, t, revision) // for people alone; a revoked one stays so
	}
	p.By, p.key, p.Until, p.Scopes = ByToken, key, t.Expires, slices.Clone(t.Scopes)
	return p, nil
}

// Tokens lists tokens by name: all for an admin, one's own for others. Those that have
// run out are listed for 30 days.
func (g *Gate) Tokens(ctx context.Context, by Principal) ([]Token, error) {
	keys, err := g.store.List(ctx, tokenPrefix)
	if err != nil {
		return nil, err
	}
	var list []Token
	for _, key := range keys {
		var t token
		if _, err := g.store.Load(ctx, key, &t); errors.Is(err, ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		if by.May(Admin, readAccess) || t.Holder.owner() == by.holder.owner() {
			list = append(list, t.shown(strings.TrimPrefix(key, tokenPrefix)))
		}
	}
	slices.SortFunc(list, func(a, b Token) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// owner is a holder without what differs between what belongs to one.
func (h holder) owner() holder {
	h.Stamp, h.Name, h.Most = "", "", Nobody
	return h
}

// RevokeToken ends a token: one's own, or any for an admin.
func (g *Gate) RevokeToken(ctx context.Context, by Principal, id string) error {
	name, err := g.revoke(ctx, by, id)
	g.record(ctx, Entry{Principal: by, Action: "token.revoke", Target: name, Detail: id}, err)
	return err
}

func (g *Gate) revoke(ctx context.Context, by Principal, id string) (name string, err error) {
	if !tokenID.MatchString(id) {
		return "", fmt.Errorf("the token %w", ErrNotFound)
	}
	var t token
	if _, err := g.store.Load(ctx, tokenPrefix+id, &t); err != nil {
		return "", fmt.Errorf("the token %w", err)
	}
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return "", err
	}
	if t.Holder.owner() != by.holder.owner() {
		if err := a.permits(by, Admin, changeAccess, g.now()); err != nil {
			return "", err
		}
	}
	return t.Name, g.remove(ctx, tokenPrefix+id)
}
