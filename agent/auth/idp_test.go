package auth_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// idp is a provider of OpenID Connect that does what the protocol asks of one: codes
// count once, for the client, the redirect and the verifier that they were asked with.
type idp struct {
	t      *testing.T
	server *httptest.Server
	clock  *clock
	key    *ecdsa.PrivateKey

	mu     sync.Mutex
	asked  map[string]url.Values // by code
	codes  int
	claims func(map[string]any) // changes what is signed
	sign   func(payload []byte) string
	status int            // of the token endpoint, if not 200
	told   map[string]any // about a person who is asked for; nil: there is no such endpoint
	asks   int            // how often that was
}

const (
	clientID     = "hyper2kvm-appliance"
	clientSecret = "client-secret-" + secretWord
	callback     = "https://appliance.example/api/v1/oidc/callback"
)

func newIDP(t *testing.T, c *clock) *idp {
	p := &idp{t: t, clock: c, key: newKey(t), asked: map[string]url.Values{}}
	p.sign = func(payload []byte) string { return signed(t, p.key, jose.ES256, payload) }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	p.server = httptest.NewTLSServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

func signed(t *testing.T, key any, alg jose.SignatureAlgorithm, payload []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	must(t, err)
	jws, err := signer.Sign(payload)
	must(t, err)
	text, err := jws.CompactSerialize()
	must(t, err)
	return text
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (p *idp) discovery(w http.ResponseWriter, _ *http.Request) {
	at := p.server.URL
	answer := map[string]any{
		"issuer": at, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "jwks_uri": at + "/keys",
		"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told != nil {
		answer["userinfo_endpoint"] = at + "/userinfo"
	}
	reply(w, answer)
}

func (p *idp) userinfo(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asks++
	if r.Header.Get("Authorization") != "Bearer access" || len(p.told) == 0 {
		http.Error(w, strings.Repeat("a page ", 10000), http.StatusUnauthorized)
		return
	}
	reply(w, p.told)
}

// consent is what the provider sends a person back with.
func (p *idp) consent(to string) url.Values {
	p.t.Helper()
	u, err := url.Parse(to)
	must(p.t, err)
	q := u.Query()
	if q.Get("client_id") != clientID || q.Get("redirect_uri") != callback || q.Get("response_type") != "code" ||
		q.Get("code_challenge_method") != "S256" || !strings.Contains(q.Get("scope"), "openid") {
		p.t.Fatalf("people are sent to %s", to)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes++
	code := fmt.Sprint("code-", p.codes, "-", secretWord)
	p.asked[code] = q
	return url.Values{"code": {code}, "state": {q.Get("state")}}
}

func (p *idp) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, secret, _ := r.BasicAuth()
	code := r.PostFormValue("code")
	q := p.asked[code]
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case p.status != 0:
		http.Error(w, "out of order", p.status)
		return
	case q == nil || id != clientID || secret != clientSecret || r.PostFormValue("redirect_uri") != q.Get("redirect_uri") ||
		base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge"):
		w.WriteHeader(http.StatusBadRequest)
		reply(w, map[string]string{"error": "invalid_grant"})
		return
	}
	delete(p.asked, code)
	claims := map[string]any{
		"iss": p.server.URL, "aud": clientID, "sub": "subject-7", "nonce": q.Get("nonce"), "preferred_username": "marta",
		"iat": p.clock.Now().Unix(), "exp": p.clock.Now().Add(time.Minute).Unix(),
		"groups": []any{"everybody", "vm-ops", 7}, "realm_access": map[string]any{"roles": []string{"vm-admins"}},
	}
	if p.claims != nil {
		p.claims(claims)
	}
	payload, err := json.Marshal(claims)
	must(p.t, err)
	reply(w, map[string]any{"access_token": "access", "token_type": "Bearer", "id_token": p.sign(payload)})
}
