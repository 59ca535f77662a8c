package auth_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"hyper2kvm/agent/auth"
)

func (h *house) provider(p *idp, edit func(*auth.OIDC)) *auth.Provider {
	h.t.Helper()
	c := auth.OIDC{
		Issuer: p.server.URL, Client: clientID, Secret: []byte(clientSecret), Redirect: callback,
		Roles: map[string]auth.Role{"vm-ops": auth.Operator, "vm-viewers": auth.Viewer, "vm-admins": auth.Admin},
	}
	if edit != nil {
		edit(&c)
	}
	provider, err := h.Provider(c, p.server.Client().Transport)
	must(h.t, err)
	return provider
}

// comesBack is the request of a browser that the provider sent back.
func comesBack(query url.Values, cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, callback+"?"+query.Encode(), nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

// through logs somebody in at the provider.
func (h *house) through(p *idp, provider *auth.Provider) (auth.Session, error) {
	h.t.Helper()
	to, cookie, err := provider.Begin(h.t.Context(), here)
	must(h.t, err)
	return provider.Finish(h.t.Context(), here, comesBack(p.consent(to), cookie))
}

func TestSomebodyLogsInAtAProvider(t *testing.T) {
	h := newHouse(t)
	p := newIDP(t, h.clock)
	provider := h.provider(p, nil)
	to, cookie, err := provider.Begin(t.Context(), here)
	must(t, err)
	if got := cookie.String(); !strings.HasPrefix(got, "__Host-oidc=") || !strings.HasSuffix(got, "; Path=/; Max-Age=600; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("the cookie is %s", got)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, provider); strings.Contains(text, secretWord) || strings.Contains(text, "112, 108, 117, 109") || strings.Contains(text, "0x70, 0x6c") || strings.Contains(text, "112 108 117 109") {
			t.Errorf("%s prints the client's secret: %s", verb, text)
		}
	}
	// Another appliance may be asked when they come back.
	other := h.annex()
	s, err := other.provider(p, nil).Finish(t.Context(), here, comesBack(p.consent(to), cookie))
	must(t, err)
	marta := h.is(s, "oidc:marta", auth.Operator)
	if e := h.last(); e.Action != "login" || e.Target != "oidc:marta" || e.Outcome != auth.Done || e.Detail != "by "+p.server.URL {
		t.Errorf("recorded: %+v", e)
	}
	if strings.Contains(h.kept(), "oidc.") {
		t.Error("what was begun is still kept")
	}
	text, _ := h.token(marta, auth.NewToken{Name: "t", Role: auth.Operator})
	h.shows(text, "oidc:marta", auth.Operator)
	wants(t, "an operator's change", h.CreateUser(t.Context(), marta, "eve", auth.Admin, password("eve")), auth.ErrForbidden)
	must(t, h.Logout(t.Context(), marta))
	h.ended(s)
}

func TestRolesComeFromTheClaimThatIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		config func(*auth.OIDC)
		claims func(map[string]any)
		role   auth.Role
		as     string
	}{
		"the highest":    {claims: func(c map[string]any) { c["groups"] = []string{"vm-viewers", "vm-admins", "vm-ops"} }, role: auth.Admin},
		"one text":       {claims: func(c map[string]any) { c["groups"] = "vm-viewers" }, role: auth.Viewer},
		"deeper":         {config: func(c *auth.OIDC) { c.RoleClaim = "realm_access.roles" }, role: auth.Admin},
		"a URL":          {config: func(c *auth.OIDC) { c.RoleClaim = "https://x.example/r" }, claims: func(c map[string]any) { c["https://x.example/r"] = "vm-ops" }, role: auth.Operator},
		"none":           {claims: func(c map[string]any) { delete(c, "groups") }},
		"none that fits": {claims: func(c map[string]any) { c["groups"] = []string{"admin", "VM-ADMINS"} }},
		"an object":      {claims: func(c map[string]any) { c["groups"] = map[string]any{"vm-admins": true} }},
		"another name":   {config: func(c *auth.OIDC) { c.NameClaim = "email" }, claims: func(c map[string]any) { c["email"] = "m@example.org" }, role: auth.Operator, as: "oidc:m@example.org"},
		"a bad name":     {claims: func(c map[string]any) { c["preferred_username"] = "a\nb" }, role: auth.Operator, as: "oidc:970c0856eba3"},
		"no name":        {claims: func(c map[string]any) { delete(c, "preferred_username") }, role: auth.Operator, as: "oidc:970c0856eba3"},
	} {
		h := newHouse(t)
		p := newIDP(t, h.clock)
		p.claims = c.claims
		s, err := h.through(p, h.provider(p, c.config))
		if c.role == auth.Nobody {
			wants(t, name, err, auth.ErrForbidden)
			continue
		}
		if err != nil || s.Principal.Role != c.role || c.as != "" && s.Principal.Name != c.as {
			t.Errorf("%s: %+v, %v, want %v", name, s.Principal, err, c.role)
		}
	}
}

// A provider that puts nothing into its token is asked for the rest, and is believed only
// about the person of the token.
func TestAProviderIsAskedForWhatItsTokenLacks(t *testing.T) {
	bare := func(c map[string]any) { delete(c, "groups"); delete(c, "preferred_username") }
	person := func(more map[string]any) map[string]any { more["sub"] = "subject-7"; return more }
	for name, c := range map[string]struct {
		claims func(map[string]any)
		told   map[string]any
		role   auth.Role
		as     string
		asks   int
	}{
		"all":                   {bare, person(map[string]any{"groups": []string{"vm-ops"}, "preferred_username": "jo"}), auth.Operator, "oidc:jo", 1},
		"the token counts more": {func(c map[string]any) { delete(c, "preferred_username") }, person(map[string]any{"groups": []string{"vm-admins"}, "preferred_username": "jo"}), auth.Operator, "oidc:jo", 1},
		"nothing is lacking":    {func(map[string]any) {}, person(map[string]any{"groups": []string{"vm-admins"}}), auth.Operator, "oidc:marta", 0},
		"no group":              {bare, person(map[string]any{"preferred_username": "jo"}), auth.Nobody, "", 1},
		"another person":        {bare, map[string]any{"sub": "subject-8", "groups": []string{"vm-ops"}}, auth.Nobody, "", 1},
		"nobody":                {bare, map[string]any{"groups": []string{"vm-ops"}}, auth.Nobody, "", 1},
		"it refuses":            {bare, map[string]any{}, auth.Nobody, "", 1},
	} {
		h := newHouse(t)
		p := newIDP(t, h.clock)
		p.claims, p.told = c.claims, c.told
		s, err := h.through(p, h.provider(p, nil))
		if p.asks != c.asks || (err == nil) != (c.role != auth.Nobody) || err == nil && (s.Principal.Role != c.role || s.Principal.Name != c.as) {
			t.Errorf("%s: %+v, %v after %d questions, want %v", name, s.Principal, err, p.asks, c.role)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
}

func TestWhatAProviderSaysWronglyIsRefused(t *testing.T) {
	stranger := newKey(t)
	for name, spoil := range map[string]func(p *idp){
		"another nonce":    func(p *idp) { p.claims = func(c map[string]any) { c["nonce"] = "other" } },
		"no nonce":         func(p *idp) { p.claims = func(c map[string]any) { delete(c, "nonce") } },
		"another audience": func(p *idp) { p.claims = func(c map[string]any) { c["aud"] = "other" } },
		"several, and for another": func(p *idp) {
			p.claims = func(c map[string]any) { c["aud"] = []string{clientID, "other"}; c["azp"] = "other" }
		},
		"several, and for nobody": func(p *idp) { p.claims = func(c map[string]any) { c["aud"] = []string{clientID, "other"} } },
		"expired":                 func(p *idp) { p.claims = func(c map[string]any) { c["exp"] = p.clock.Now().Add(-time.Second).Unix() } },
		"without end":             func(p *idp) { p.claims = func(c map[string]any) { delete(c, "exp") } },
		"another issuer":          func(p *idp) { p.claims = func(c map[string]any) { c["iss"] = "https://other.example" } },
		"of nobody":               func(p *idp) { p.claims = func(c map[string]any) { delete(c, "sub") } },
		"another key":             func(p *idp) { p.sign = func(b []byte) string { return signed(p.t, stranger, jose.ES256, b) } },
		"the secret as the key": func(p *idp) {
			p.sign = func(b []byte) string { return signed(p.t, []byte(clientSecret), jose.HS256, b) }
		},
		"not signed": func(p *idp) {
			p.sign = func(b []byte) string {
				e := base64.RawURLEncoding
				return e.EncodeToString([]byte(`{"alg":"none"}`)) + "." + e.EncodeToString(b) + "."
			}
		},
		"no token":     func(p *idp) { p.sign = func([]byte) string { return "" } },
		"code refused": func(p *idp) { p.status = http.StatusForbidden },
	} {
		h := newHouse(t)
		p := newIDP(t, h.clock)
		spoil(p)
		_, err := h.through(p, h.provider(p, nil))
		wants(t, name, err, auth.ErrUnauthenticated)
		if e := h.last(); e.Outcome != auth.Refused || strings.Contains(fmt.Sprint(e), secretWord) {
			t.Errorf("%s: recorded: %+v", name, e)
		}
		if strings.Contains(h.kept(), "sessions.") {
			t.Errorf("%s: there is a session", name)
		}
	}
}

func TestALoginAtAProviderCountsOnceInItsBrowser(t *testing.T) {
	h := newHouse(t)
	p := newIDP(t, h.clock)
	provider := h.provider(p, nil)
	begin := func() (url.Values, *http.Cookie) {
		h.clock.pass(time.Minute) // for the limits
		to, cookie, err := provider.Begin(t.Context(), here)
		must(t, err)
		return p.consent(to), cookie
	}
	finish := func(q url.Values, cookies ...*http.Cookie) error {
		_, err := provider.Finish(t.Context(), here, comesBack(q, cookies...))
		return err
	}
	q, cookie := begin()
	must(t, finish(q, cookie))
	wants(t, "the same again", finish(q, cookie), auth.ErrUnauthenticated)

	used := q.Get("code")
	q, cookie = begin()
	q.Set("code", used)
	wants(t, "a code that was used", finish(q, cookie), auth.ErrUnauthenticated)

	q, _ = begin()
	_, mine := begin()
	wants(t, "without the cookie", finish(q), auth.ErrUnauthenticated)
	wants(t, "in another browser", finish(q, mine), auth.ErrUnauthenticated)

	stolen, _ := begin()
	q, cookie = begin()
	q.Set("code", stolen.Get("code"))
	wants(t, "with the code of another login", finish(q, cookie), auth.ErrUnauthenticated)

	q, cookie = begin()
	q.Set("iss", "https://other.example")
	wants(t, "from another provider", finish(q, cookie), auth.ErrUnauthenticated)

	q, cookie = begin()
	wants(t, "refused by the provider", finish(url.Values{"state": q["state"], "error": {"access_denied"}}, cookie), auth.ErrUnauthenticated)
	wants(t, "and then with a code", finish(q, cookie), auth.ErrUnauthenticated)

	q, cookie = begin()
	h.clock.pass(10 * time.Minute)
	wants(t, "too late", finish(q, cookie), auth.ErrUnauthenticated)

	for _, state := range []string{"", "../access", strings.Repeat("0", 32)} {
		q.Set("state", state)
		wants(t, "the state "+state, finish(q, &http.Cookie{Name: "__Host-oidc", Value: state}), auth.ErrUnauthenticated)
	}

	begin()
	h.clock.pass(10 * time.Minute)
	must(t, h.Sweep(t.Context()))
	if strings.Contains(h.kept(), "oidc.") {
		t.Error("what nobody finished is still kept")
	}
}

func TestBeginningsAreBounded(t *testing.T) {
	h := newHouse(t)
	p := newIDP(t, h.clock)
	provider := h.provider(p, nil)
	for range 10 {
		_, _, err := provider.Begin(t.Context(), here)
		must(t, err)
	}
	_, _, err := provider.Begin(t.Context(), here)
	wait(t, "one more", err)
}

func TestAProviderThatIsOutOfOrderIsNobodysFault(t *testing.T) {
	h := newHouse(t)
	p := newIDP(t, h.clock)
	p.status = http.StatusBadGateway
	_, err := h.through(p, h.provider(p, nil))
	if err == nil || h.last().Outcome != auth.Failed {
		t.Errorf("%v, recorded as %+v", err, h.last())
	}
	provider := h.provider(p, nil)
	p.server.Close()
	_, _, err = provider.Begin(t.Context(), here)
	if err == nil {
		t.Error("a provider that is away was asked")
	}
}

func TestAProviderNeedsToBeConfigured(t *testing.T) {
	h := newHouse(t)
	good := auth.OIDC{Issuer: "https://a.example", Client: "c", Redirect: callback, Roles: map[string]auth.Role{"x": auth.Viewer}}
	for name, edit := range map[string]func(*auth.OIDC){
		"no issuer":      func(c *auth.OIDC) { c.Issuer = "" },
		"plain http":     func(c *auth.OIDC) { c.Issuer = "http://a.example" },
		"plain callback": func(c *auth.OIDC) { c.Redirect = "http://a.example/x" },
		"no client":      func(c *auth.OIDC) { c.Client = "" },
		"no roles":       func(c *auth.OIDC) { c.Roles = nil },
	} {
		c := good
		edit(&c)
		_, err := h.Provider(c, nil)
		wants(t, name, err, auth.ErrInput)
	}
	_, err := h.Provider(good, nil)
	must(t, err)
}
