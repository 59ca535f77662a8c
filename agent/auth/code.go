package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"hyper2kvm/fixers/guest"
)

// letters are Crockford's: none looks like another, whoever reads them off a screen.
const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const (
	codeGroups = 4
	codeGroup  = 5 // letters of 5 bits: 100 bits in all
)

// looksLike is what people type for letters that they misread.
var looksLike = strings.NewReplacer("O", "0", "I", "1", "L", "1", "-", "", " ", "")

// newCode is a code as it is shown, such as 4T2QK-9ZB0M-X7C3H-J5N8W.
func newCode() string {
	b := make([]byte, codeGroups*codeGroup)
	rand.Read(b)
	var text strings.Builder
	for i, c := range b {
		if i > 0 && i%codeGroup == 0 {
			text.WriteByte('-')
		}
		text.WriteByte(letters[c%32])
	}
	return text.String()
}

const mostCode = 64 // bytes that are looked at

// parseCode is a code without what people add to it or misread.
func parseCode(text string) (string, error) {
	if len(text) > mostCode {
		return "", ErrNoCode
	}
	code := looksLike.Replace(strings.ToUpper(text))
	if len(code) != codeGroups*codeGroup || strings.Trim(code, letters) != "" {
		return "", fmt.Errorf("%w: it has %d groups of %d letters and digits", ErrNoCode, codeGroups, codeGroup)
	}
	return code, nil
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

var errBegun = errors.New("somebody has access already")

// Begun tells whether somebody has access, or had: then there is no first code.
func (g *Gate) Begun(ctx context.Context) (bool, error) {
	a, _, err := g.readAccess(ctx)
	return err == nil && a.Begun, err
}

// FirstCode makes the code that the first admin is made with, for the caller to show to
// those who stand before the appliance, and makes earlier ones worthless: only its
// digest is kept. It is empty if somebody has access already, or had.
func (g *Gate) FirstCode(ctx context.Context) (guest.Secret, error) {
	code := newCode()
	parsed, err := parseCode(code)
	if err != nil {
		return nil, err
	}
	err = g.change(ctx, func(a *access) error {
		if a.Begun {
			return errBegun
		}
		a.Code = digest(parsed)
		return nil
	})
	if errors.Is(err, errBegun) {
		return nil, nil
	}
	g.record(ctx, Entry{Principal: Principal{Name: "appliance"}, Action: "code.make"}, err)
	if err != nil {
		return nil, err
	}
	return guest.Secret(code), nil
}

// FirstAdmin makes the first admin, with the code, and logs them in. The code is used up
// by that, and by nothing else: it counts still when the password is refused.
func (g *Gate) FirstAdmin(ctx context.Context, from netip.Addr, code, name, password string) (Session, error) {
	e := Entry{Principal: Principal{From: address(from)}, Action: "code.use"}
	try, err := g.limits.begin(g.now(), from, "")
	if err != nil {
		g.refuse(ctx, e, err)
		return Session{}, err
	}
	err = g.useCode(ctx, code, name, password)
	try.ended(g.now(), err)
	if err == nil {
		e.Principal.Name, e.Principal.Role, e.Target = name, Admin, name
	}
	g.record(ctx, e, err)
	if err != nil {
		return Session{}, err
	}
	return g.enter(ctx, from, name)
}

func (g *Gate) useCode(ctx context.Context, text, name, password string) error {
	code, err := parseCode(text)
	if err != nil {
		return err
	}
	check := func(a *access) error {
		if !same(a.Code, digest(code)) {
			return ErrNoCode
		}
		return nil
	}
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return err
	}
	if err := check(a); err != nil {
		return err
	}
	hash, err := g.hashNew(ctx, name, password)
	if err != nil {
		return err
	}
	return g.change(ctx, func(a *access) error {
		if err := check(a); err != nil {
			return err
		}
		return a.add(name, Admin, hash, g.now())
	})
}
