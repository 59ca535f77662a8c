package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Finish begins a session for somebody whom the provider sent back with a query, or
// returns ErrUnauthenticated; ErrForbidden if no role is theirs. The request's cookies
// have the one of Begin.
//
// Source: OpenID Connect Core 1.0, sections 3.1.2.7 and 3.1.3.7; RFC 9700, section 2.1.
func (p *Provider) Finish(ctx context.Context, from netip.Addr, r *http.Request) (Session, error) {
	e := Entry{Principal: Principal{From: address(from)}, Action: "login", Detail: "by " + p.config.Issuer}
	try, err := p.gate.limits.begin(p.gate.now(), from, "")
	if err != nil {
		p.gate.refuse(ctx, e, err)
		return Session{}, err
	}
	s, err := p.finish(ctx, from, r)
	try.ended(p.gate.now(), err)
	if err == nil {
		e.Principal, e.Target = s.Principal, s.Principal.Name
	}
	p.gate.record(ctx, e, err)
	return s, err
}

func (p *Provider) finish(ctx context.Context, from netip.Addr, r *http.Request) (Session, error) {
	query := r.URL.Query()
	state, err := returned(query, r)
	if err != nil {
		return Session{}, err
	}
	begun, err := p.take(ctx, state)
	if err != nil {
		return Session{}, err
	}
	if iss := query.Get("iss"); iss != "" && iss != p.config.Issuer { // Source: RFC 9207
		return Session{}, fmt.Errorf("%w: another provider answered", ErrUnauthenticated)
	}
	if query.Get("error") != "" || query.Get("code") == "" {
		return Session{}, fmt.Errorf("%w: the provider let nobody in", ErrUnauthenticated)
	}
	token, access, err := p.exchange(ctx, query.Get("code"), begun)
	if err != nil {
		return Session{}, err
	}
	claims, err := p.claims(ctx, token, access)
	if err != nil {
		return Session{}, err
	}
	h, err := p.holder(token, claims)
	if err != nil {
		return Session{}, err
	}
	return p.gate.begin(ctx, from, h)
}

// returned is the state of one who comes back in the browser that they began in.
func returned(query url.Values, r *http.Request) (string, error) {
	state := query.Get("state")
	cookie, err := r.Cookie(pendingCookie)
	if err != nil || !stateText.MatchString(state) || !same(state, cookie.Value) {
		return "", fmt.Errorf("%w: the log-in was not begun in this browser", ErrUnauthenticated)
	}
	return state, nil
}

// exchange gets the provider's word for a code, and believes it only if it is of this
// provider, for this appliance, for this log-in and of now. With the second token the
// provider tells more.
func (p *Provider) exchange(ctx context.Context, code string, begun pending) (*oidc.IDToken, *oauth2.Token, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	reply, err := p.oauth(found).Exchange(ctx, code, oauth2.VerifierOption(begun.Verifier))
	if err != nil {
		return nil, nil, refusal(err)
	}
	text, _ := reply.Extra("id_token").(string)
	token, err := found.Verifier(&oidc.Config{ClientID: p.config.Client, Now: p.gate.now}).Verify(ctx, text)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the provider's token does not hold: %w", ErrUnauthenticated, err)
	}
	var claims struct {
		Authorized string `json:"azp"`
	}
	err = token.Claims(&claims)
	switch {
	case err != nil || !same(token.Nonce, begun.Nonce):
		return nil, nil, fmt.Errorf("%w: the provider's token is of another log-in", ErrUnauthenticated)
	case (len(token.Audience) > 1 || claims.Authorized != "") && claims.Authorized != p.config.Client:
		return nil, nil, fmt.Errorf("%w: the provider's token was made for another client", ErrUnauthenticated)
	case token.Subject == "":
		return nil, nil, fmt.Errorf("%w: the provider's token is of nobody", ErrUnauthenticated)
	}
	return token, reply, nil
}

// claims are what the provider says of somebody in its token, and, if that lacks what is
// wanted, what it tells besides: by the standard the claims of scopes are told there, and
// that many put them into the token is their kindness.
//
// Source: OpenID Connect Core 1.0, sections 5.3 and 5.4.
func (p *Provider) claims(ctx context.Context, token *oidc.IDToken, access *oauth2.Token) (map[string]any, error) {
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: the provider's token: %w", ErrUnauthenticated, err)
	}
	found, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	if found.UserInfoEndpoint() == "" || claim(claims, p.config.RoleClaim) != nil && claim(claims, p.config.NameClaim) != nil {
		return claims, nil
	}
	more, err := found.UserInfo(oidc.ClientContext(ctx, p.client), oauth2.StaticTokenSource(access))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the provider tells nothing about a person: %.300v", err) // it may hold a whole page
	case more.Subject != token.Subject:
		return nil, fmt.Errorf("%w: the provider tells of another person than its token", ErrUnauthenticated)
	}
	told := map[string]any{}
	if err := more.Claims(&told); err != nil {
		return nil, fmt.Errorf("what the provider tells about a person: %w", err)
	}
	maps.Copy(told, claims)
	return told, nil
}

// refusal tells a provider that refused a code from one that is out of order.
func refusal(err error) error {
	var reply *oauth2.RetrieveError
	switch {
	case !errors.As(err, &reply):
		return fmt.Errorf("the provider: %w", err)
	case reply.Response.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("the provider answered %s", reply.Response.Status)
	}
	return fmt.Errorf("%w: the provider did not take the code", ErrUnauthenticated)
}

// externalName is what a name is kept of. With the mark before it, it is no user's.
var externalName = regexp.MustCompile(`^[\pL\pN][\pL\pN ._@+'/-]*$`)

// mostExternal is how long such a name may be, in characters: told apart, since a regular
// expression that counts them takes megabytes.
const mostExternal = 100

const externalMark = "oidc:"

// holder is whom a token is of, with the highest of the roles that claims give them.
func (p *Provider) holder(token *oidc.IDToken, claims map[string]any) (holder, error) {
	name, _ := claims[p.config.NameClaim].(string)
	if utf8.RuneCountInString(name) > mostExternal || !externalName.MatchString(name) {
		name = digest(token.Subject)[:12]
	}
	h := holder{External: digest(token.Issuer + "\n" + token.Subject), Name: externalMark + name}
	for _, value := range texts(claim(claims, p.config.RoleClaim)) {
		h.Most = max(h.Most, p.config.Roles[value])
	}
	if !h.Most.known() {
		return holder{}, fmt.Errorf("%w: the provider gives %s no role here", ErrForbidden, h.Name)
	}
	return h, nil
}

// claim is what stands at a name, or deeper at one with dots.
func claim(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	first, rest, deeper := strings.Cut(name, ".")
	inner, ok := claims[first].(map[string]any)
	if !deeper || !ok {
		return nil
	}
	return claim(inner, rest)
}

// texts is a text, or those of a list.
func texts(value any) (list []string) {
	values, ok := value.([]any)
	if !ok {
		values = []any{value}
	}
	for _, v := range values {
		if text, ok := v.(string); ok {
			list = append(list, text)
		}
	}
	return list
}
