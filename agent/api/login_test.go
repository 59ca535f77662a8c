package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"hyper2kvm/agent/auth"
)

// idp is a provider of OpenID Connect that lets marta in, with one group. What else one
// may do is tested where log-ins are decided on.
type idp struct {
	*httptest.Server
	key   *ecdsa.PrivateKey
	nonce string
	group string
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{key: key, group: "ops"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		tell(t, w, map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		tell(t, w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		tell(t, w, map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": p.token(t)})
	})
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	return p
}

func tell(t *testing.T, w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Error(err)
	}
}

// token is the provider's word for marta.
func (p *idp) token(t *testing.T) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k"}}, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{"iss": p.URL, "aud": "h2k", "sub": "7", "nonce": p.nonce, "preferred_username": "marta", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "groups": p.group})
	if err != nil {
		t.Error(err)
		return ""
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Error(err)
		return ""
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Error(err)
	}
	return text
}

// browser goes where it is told, and no further by itself.
func (h *harness) browser(t *testing.T, path string, cookies ...*http.Cookie) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	reply, err := h.Client().Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reply.Body)
	if err := errors.Join(err, reply.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if reply.StatusCode != 302 && (!strings.HasPrefix(reply.Header.Get("Content-Type"), "text/html") || !strings.Contains(string(text), "<h1>")) {
		t.Errorf("%s is no page: %s", path, text)
	}
	return reply, string(text)
}

// atProvider goes to the provider and comes back with what it was given.
func (h *harness) atProvider(t *testing.T, p *idp) (back string, cookies []*http.Cookie) {
	t.Helper()
	reply, text := h.browser(t, "/login")
	to, err := url.Parse(reply.Header.Get("Location"))
	if err != nil || reply.StatusCode != 302 || to.Host != strings.TrimPrefix(p.URL, "https://") {
		t.Fatalf("it sends to %v, %d %s", to, reply.StatusCode, text)
	}
	p.nonce = to.Query().Get("nonce")
	return "/login/callback?" + url.Values{"code": {"code"}, "state": {to.Query().Get("state")}}.Encode(), reply.Cookies()
}

func TestPeopleLogInWithAProvider(t *testing.T) {
	p := newIDP(t)
	h := newHarness(t, done, func(c *Config) {
		c.Provider = func(context.Context) (*auth.Provider, error) {
			return c.Gate.Provider(auth.OIDC{Issuer: p.URL, Client: "h2k", Redirect: "https://appliance.example/login/callback", Roles: map[string]auth.Role{"ops": auth.Operator}}, p.Client().Transport)
		}
	})
	back, cookies := h.atProvider(t, p)
	reply, text := h.browser(t, back, cookies...)
	if reply.StatusCode != 200 || len(reply.Cookies()) != 1 || !strings.Contains(text, `content="0; url=/"`) {
		t.Fatalf("back, it is answered with %d %v %s", reply.StatusCode, reply.Cookies(), text)
	}
	session := reply.Cookies()[0]
	h.want(t, "", "GET", "/secrets", nil, 200, "", "Cookie", session.Name+"="+session.Value)
	h.want(t, "", "PUT", "/session/password", map[string]string{"current": goodPassword, "password": otherPassword}, 403, "forbidden", "Cookie", session.Name+"="+session.Value)

	if reply, text := h.browser(t, back, cookies...); reply.StatusCode != 401 || len(reply.Cookies()) > 0 || !strings.Contains(text, "the log-in was used") {
		t.Errorf("again: %d %s", reply.StatusCode, text)
	}
	if reply, text := h.browser(t, back); reply.StatusCode != 401 || !strings.Contains(text, "not begun in this browser") {
		t.Errorf("in another browser: %d %s", reply.StatusCode, text)
	}
	p.group = "strangers"
	back, cookies = h.atProvider(t, p)
	if reply, text := h.browser(t, back, cookies...); reply.StatusCode != 403 || !strings.Contains(text, "no role here") {
		t.Errorf("without a role: %d %s", reply.StatusCode, text)
	}
	back, cookies = h.atProvider(t, p)
	p.Close()
	if reply, text := h.browser(t, back, cookies...); reply.StatusCode != 502 || !strings.Contains(text, "does not answer") || strings.Contains(text, "127.0.0.1") {
		t.Errorf("without the provider: %d %s", reply.StatusCode, text)
	}
	for range 12 {
		reply, text = h.browser(t, "/login")
	}
	if reply.StatusCode != 429 || reply.Header.Get("Retry-After") == "" {
		t.Errorf("asked all the time: %d %s", reply.StatusCode, text)
	}
}

func TestWithoutAProviderThereIsNoWayToIt(t *testing.T) {
	h := newHarness(t, done)
	reply, err := h.Client().Get(h.URL + "/login")
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil || reply.StatusCode != 404 {
		t.Errorf("/login: %d, %v", reply.StatusCode, err)
	}
}
