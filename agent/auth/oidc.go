package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"hyper2kvm/fixers/guest"
)

// OIDC is how people log in at a provider of OpenID Connect instead of here: by the
// authorization code flow with PKCE. Their roles are what the provider says of them when
// they log in, in its token or when it is asked for more, until that session ends.
type OIDC struct {
	Issuer    string       // https://login.example.org/realms/ops
	Client    string       // ID of this appliance at the provider
	Secret    guest.Secret // empty: a public client
	Redirect  string       // this appliance's callback, https
	Scopes    []string     // besides openid
	NameClaim string       // empty: preferred_username
	RoleClaim string       // text or a list, also deeper with dots: realm_access.roles; empty: groups
	Roles     map[string]Role
}

// Provider logs people in at one provider.
type Provider struct {
	gate   *Gate
	config OIDC
	secret func() string // of fields that are not exported, package fmt prints what a Secret hides
	client *http.Client
	found  atomic.Pointer[oidc.Provider]
}

// Bounds of what a provider may take.
const (
	providerTime  = 10 * time.Second
	providerReply = 1 << 20 // bytes
	loginTime     = 10 * time.Minute
)

// Provider checks a configuration. The provider itself is asked when somebody logs in,
// so that the appliance starts without it. Transport reaches it; nil is the usual one.
func (g *Gate) Provider(c OIDC, transport http.RoundTripper) (*Provider, error) {
	c.NameClaim, c.RoleClaim = cmp.Or(c.NameClaim, "preferred_username"), cmp.Or(c.RoleClaim, "groups")
	if err := c.check(); err != nil {
		return nil, err
	}
	if transport == nil {
		transport = http.DefaultTransport
	}
	secret := string(c.Secret)
	c.Secret = nil
	client := &http.Client{Transport: bounded{transport}, Timeout: providerTime}
	return &Provider{gate: g, config: c, secret: func() string { return secret }, client: client}, nil
}

func (c OIDC) check() error {
	for what, text := range map[string]string{"issuer": c.Issuer, "redirect": c.Redirect} {
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%w: the %s of OpenID Connect must be an https URL", ErrInput, what)
		}
	}
	if c.Client == "" || len(c.Roles) == 0 {
		return fmt.Errorf("%w: OpenID Connect needs a client ID, and a role for a value of %s at least", ErrInput, c.RoleClaim)
	}
	return nil
}

// bounded cuts replies that are too long.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	reply, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		reply.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(reply.Body, providerReply), reply.Body}
	}
	return reply, err
}

// discover asks the provider who it is, until it has answered once.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	if found := p.found.Load(); found != nil {
		return found, nil
	}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("the provider %s: %w", p.config.Issuer, err)
	}
	p.found.Store(found)
	return found, nil
}

func (p *Provider) oauth(found *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{
		ClientID: p.config.Client, ClientSecret: p.secret(), RedirectURL: p.config.Redirect,
		Endpoint: found.Endpoint(), Scopes: append([]string{oidc.ScopeOpenID}, p.config.Scopes...),
	}
}

// pending is a log-in that has begun. It is used once.
type pending struct {
	Hash     string    `json:"hash"` // SHA-256 of the state
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Until    time.Time `json:"until"`
}

const (
	pendingPrefix = "oidc."
	pendingCookie = "__Host-oidc"
)

func pendingKey(state string) string { return pendingPrefix + digest(state)[:32] }

// Begin sends somebody to the provider: to the URL, with the cookie, which binds what
// comes back to the browser that asked.
func (p *Provider) Begin(ctx context.Context, from netip.Addr) (string, *http.Cookie, error) {
	if _, err := p.gate.limits.begin(p.gate.now(), from, ""); err != nil {
		return "", nil, err
	}
	found, err := p.discover(ctx)
	if err != nil {
		return "", nil, err
	}
	state, nonce, verifier := random(), random(), oauth2.GenerateVerifier()
	record := pending{digest(state), nonce, verifier, p.gate.now().UTC().Add(loginTime)}
	if err := p.gate.store.Save(ctx, pendingKey(state), record, 0); err != nil {
		return "", nil, err
	}
	to := p.oauth(found).AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier))
	// Lax: the provider's page sends the browser back.
	return to, &http.Cookie{Name: pendingCookie, Value: state, Path: "/", MaxAge: int(loginTime.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}, nil
}

var stateText = regexp.MustCompile(`^[0-9a-f]{32}$`)

// take ends what has begun, or returns ErrUnauthenticated: also if another took it.
func (p *Provider) take(ctx context.Context, state string) (pending, error) {
	var record pending
	revision, err := p.gate.store.Load(ctx, pendingKey(state), &record)
	if err == nil {
		err = p.gate.store.Delete(ctx, pendingKey(state), revision)
	}
	switch {
	case errors.Is(err, ErrNotFound) || errors.Is(err, ErrChanged):
		return pending{}, fmt.Errorf("%w: the log-in was used, or has not begun here", ErrUnauthenticated)
	case err != nil:
		return pending{}, err
	case !same(record.Hash, digest(state)) || !p.gate.now().Before(record.Until):
		return pending{}, fmt.Errorf("%w: the log-in took too long", ErrUnauthenticated)
	}
	return record, nil
}
