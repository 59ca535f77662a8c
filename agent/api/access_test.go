package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

const (
	goodPassword  = "seven quiet otters swim"
	otherPassword = "nine loud geese run home"
)

// cookie is the session that a reply hands out, as a browser sends it.
func (a answer) cookie(t *testing.T) string {
	t.Helper()
	c, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil || c.Name != auth.CookieName || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
		t.Fatalf("%d: the cookie is %+v, %v: %s", a.status, c, err, a.body)
	}
	return c.Name + "=" + c.Value
}

// founded has marta as its first admin, and returns her cookie.
func (h *harness) founded(t *testing.T) string {
	t.Helper()
	var made struct{ Code string }
	h.ask(t, "socket", "POST", "/setup/code", nil).into(t, &made)
	return h.ask(t, "", "POST", "/setup", map[string]string{"code": made.Code, "name": "marta", "password": goodPassword}).cookie(t)
}

// want asks for something, and tells when its answer is another.
func (h *harness) want(t *testing.T, role, method, path string, body any, status int, code string, headers ...string) answer {
	t.Helper()
	a := h.ask(t, role, method, path, body, headers...)
	if a.status != status {
		t.Errorf("%s %s as %q: %d %s, want %d", method, path, role, a.status, a.body, status)
	} else if code != "" && a.problem(t).Code != code {
		t.Errorf("%s %s as %q: %s, want %s", method, path, role, a.body, code)
	}
	return a
}

func TestTheFirstAdminIsMadeWithACode(t *testing.T) {
	h := newHarness(t, done)
	h.want(t, "", "POST", "/setup/code", nil, 401, "unauthenticated")
	h.want(t, "admin", "POST", "/setup/code", nil, 403, "forbidden") // an admin's token, over TCP
	var old, made struct{ Code string }
	h.want(t, "socket", "POST", "/setup/code", nil, 200, "").into(t, &old)
	h.want(t, "socket", "POST", "/setup/code", nil, 200, "").into(t, &made)
	try := func(code, password string) map[string]string {
		return map[string]string{"code": code, "name": "marta", "password": password}
	}
	h.want(t, "", "POST", "/setup", try(old.Code, goodPassword), 401, "wrong-code")
	h.want(t, "", "POST", "/setup", try(made.Code, "short"), 422, "bad-input")
	a := h.want(t, "", "POST", "/setup", try(made.Code, goodPassword), 200, "")
	var s model.Session
	if a.into(t, &s); s.Name != "marta" || s.Role != model.RoleAdmin || s.By != model.BySession || s.Until.IsZero() {
		t.Errorf("it begins %+v", s)
	}
	h.want(t, "", "GET", "/users", nil, 200, "", "Cookie", a.cookie(t))
	h.want(t, "", "POST", "/setup", try(made.Code, goodPassword), 401, "wrong-code")
	h.want(t, "socket", "POST", "/setup/code", nil, 409, "begun")
}

func TestASessionIsBegunUsedAndEnded(t *testing.T) {
	h := newHarness(t, done)
	first := h.founded(t)
	login := map[string]string{"name": "marta", "password": goodPassword}
	a := h.want(t, "", "POST", "/session", login, 200, "")
	cookie := a.cookie(t)
	var s model.Session
	if h.want(t, "", "GET", "/session", nil, 200, "", "Cookie", cookie).into(t, &s); s.Name != "marta" || s.By != model.BySession {
		t.Errorf("who asks is %+v", s)
	}
	if a := h.want(t, "", "DELETE", "/session", nil, 204, "", "Cookie", cookie); !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("the browser keeps it: %q", a.header.Get("Set-Cookie"))
	}
	h.want(t, "", "GET", "/session", nil, 401, "unauthenticated", "Cookie", cookie)
	h.want(t, "", "POST", "/session", login, 200, "", "Cookie", cookie) // one that has ended is in nobody's way
	h.want(t, "", "GET", "/session", nil, 401, "unauthenticated")
	h.want(t, "viewer", "DELETE", "/session", nil, 403, "forbidden")
	h.want(t, "", "POST", "/session", map[string]string{"name": "marta", "password": otherPassword}, 401, "wrong-password")
	h.want(t, "", "PUT", "/session/password", map[string]string{"current": otherPassword, "password": otherPassword}, 401, "wrong-password", "Cookie", first)
	second := h.want(t, "", "PUT", "/session/password", map[string]string{"current": goodPassword, "password": otherPassword}, 200, "", "Cookie", first).cookie(t)
	h.want(t, "", "GET", "/session", nil, 401, "unauthenticated", "Cookie", first)
	h.want(t, "", "GET", "/session", nil, 200, "", "Cookie", second)
	h.want(t, "socket", "PUT", "/session/password", map[string]string{"current": goodPassword, "password": otherPassword}, 403, "forbidden")
}

// TestWhoGuessesWaits: three attempts are free, and then it is told when the next may be.
func TestWhoGuessesWaits(t *testing.T) {
	h := newHarness(t, done)
	h.founded(t)
	now := time.Now()
	h.stopped.Store(now.UnixNano())
	good := map[string]string{"name": "marta", "password": goodPassword}
	for _, c := range []struct {
		path, code string
		body       map[string]string
	}{
		{"/session", "wrong-password", map[string]string{"name": "marta", "password": otherPassword}},
		{"/setup", "wrong-code", map[string]string{"code": "4T2QK-9ZB0M-X7C3H-J5N8W", "name": "eve", "password": goodPassword}},
	} {
		for range 3 {
			h.want(t, "", "POST", c.path, c.body, 401, c.code)
		}
		if a := h.want(t, "", "POST", c.path, c.body, 429, "too-many"); a.header.Get("Retry-After") != "2" {
			t.Errorf("%s: try again after %q", c.path, a.header.Get("Retry-After"))
		}
	}
	h.want(t, "", "POST", "/session", good, 429, "too-many")
	h.stopped.Store(now.Add(2 * time.Second).UnixNano())
	h.want(t, "", "POST", "/session", good, 200, "")
}

func TestUsersAreMadeChangedAndRemoved(t *testing.T) {
	h := newHarness(t, done)
	h.founded(t)
	tom := map[string]any{"name": "tom", "role": "operator", "password": otherPassword}
	var u model.User
	if h.want(t, "socket", "POST", "/users", tom, 201, "").into(t, &u); u.Name != "tom" || u.Role != model.RoleOperator || u.Disabled || u.Created.IsZero() {
		t.Errorf("made is %+v", u)
	}
	h.want(t, "socket", "POST", "/users", tom, 409, "exists")
	h.want(t, "admin", "POST", "/users", tom, 403, "forbidden") // a token without scopes makes no users
	cookie := h.want(t, "", "POST", "/session", map[string]string{"name": "tom", "password": otherPassword}, 200, "").cookie(t)
	for _, c := range []struct {
		change string
		status int // that tom's session gets for what operators may
	}{{`{"role":"viewer"}`, 403}, {`{"role":"operator"}`, 200}, {`{"disabled":true}`, 401}, {`{"disabled":false}`, 401}} {
		h.want(t, "socket", "PATCH", "/users/tom", c.change, 200, "")
		h.want(t, "", "GET", "/secrets", nil, c.status, "", "Cookie", cookie)
	}
	h.want(t, "socket", "PATCH", "/users/tom", `{"password":"`+goodPassword+`"}`, 200, "")
	cookie = h.want(t, "", "POST", "/session", map[string]string{"name": "tom", "password": goodPassword}, 200, "").cookie(t)
	h.want(t, "socket", "DELETE", "/users/tom/sessions", nil, 204, "")
	h.want(t, "", "GET", "/session", nil, 401, "", "Cookie", cookie)
	for path, change := range map[string]string{"/users/marta": `{"role":"viewer"}`, "/users/marta?": `{"disabled":true}`} {
		h.want(t, "socket", "PATCH", path, change, 409, "last-admin")
	}
	h.want(t, "socket", "DELETE", "/users/marta", nil, 409, "last-admin")
	h.want(t, "socket", "PATCH", "/users/tom", `{}`, 400, "bad-request")
	h.want(t, "socket", "PATCH", "/users/tom", `{"role":"admin","disabled":false}`, 400, "bad-request")
	h.want(t, "socket", "PATCH", "/users/none", `{"role":"admin"}`, 404, "not-there")
	h.want(t, "socket", "DELETE", "/users/tom", nil, 204, "")
	h.want(t, "socket", "DELETE", "/users/tom", nil, 404, "not-there")
}

func TestTokensAreShownOnceAndDoWhatTheyAreFor(t *testing.T) {
	h := newHarness(t, done)
	cookie := h.founded(t)
	var made struct {
		Text  string
		Token model.Token
	}
	h.want(t, "", "POST", "/tokens", `{"name":"nightly","role":"operator","scopes":["secrets:read"],"life":3600}`, 201, "", "Cookie", cookie).into(t, &made)
	if life := made.Token.Expires.Sub(made.Token.Created); life != time.Hour || made.Token.Owner != "marta" {
		t.Errorf("made is %+v", made.Token)
	}
	bearer := []string{"Authorization", "Bearer " + made.Text}
	h.want(t, "", "GET", "/secrets", nil, 200, "", bearer...)
	h.want(t, "", "GET", "/migrations", nil, 403, "forbidden", bearer...)
	h.want(t, "", "GET", "/session", nil, 200, "", bearer...) // whatever it is for
	h.want(t, "", "POST", "/tokens", `{"name":"more","role":"viewer","scopes":["access:write"]}`, 403, "forbidden", bearer...)
	list := h.want(t, "", "GET", "/tokens", nil, 200, "", "Cookie", cookie)
	var all struct{ Items []model.Token }
	if list.into(t, &all); len(all.Items) != 4 || strings.Contains(string(list.body), made.Text) {
		t.Errorf("the list is %s", list.body)
	}
	h.want(t, "", "DELETE", "/tokens/"+made.Token.ID, nil, 204, "", "Cookie", cookie)
	h.want(t, "", "GET", "/secrets", nil, 401, "unauthenticated", bearer...)
	h.want(t, "", "DELETE", "/tokens/"+made.Token.ID, nil, 404, "not-there", "Cookie", cookie)
}

// clientCertificate is a key with a certificate that it has signed itself.
func clientCertificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCertificatesLetClientsIn(t *testing.T) {
	h := newHarness(t, done)
	own, text := clientCertificate(t)
	transport := h.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = []tls.Certificate{own}
	get := func() int {
		t.Helper()
		reply, err := (&http.Client{Transport: transport}).Get(h.URL + base + "/session")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, reply.Body); err != nil {
			t.Fatal(err)
		}
		if err := reply.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return reply.StatusCode
	}
	if got := get(); got != 401 {
		t.Errorf("unknown, it gets %d", got)
	}
	var c model.Certificate
	h.want(t, "socket", "POST", "/certificates", map[string]string{"name": "nightly", "role": "viewer", "pem": text}, 201, "").into(t, &c)
	if got := get(); got != 200 {
		t.Errorf("trusted, it gets %d", got)
	}
	h.want(t, "socket", "POST", "/certificates", map[string]string{"name": "again", "role": "viewer", "fingerprint": strings.ToUpper(c.Fingerprint)}, 409, "exists")
	for what, body := range map[string]map[string]string{
		"neither":   {"name": "x", "role": "viewer"},
		"both":      {"name": "x", "role": "viewer", "pem": text, "fingerprint": c.Fingerprint},
		"no PEM":    {"name": "x", "role": "viewer", "pem": "x"},
		"two":       {"name": "x", "role": "viewer", "pem": text + text},
		"no digits": {"name": "x", "role": "viewer", "fingerprint": strings.Repeat("x", 64)},
		"a key":     {"name": "x", "role": "viewer", "pem": text + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"},
	} {
		if a := h.want(t, "socket", "POST", "/certificates", body, 422, "bad-input"); what == "a key" && !strings.Contains(a.problem(t).Detail, "private key") {
			t.Errorf("%s: %s", what, a.body)
		}
	}
	h.want(t, "socket", "DELETE", "/certificates/"+c.Fingerprint, nil, 204, "")
	if got := get(); got != 401 {
		t.Errorf("removed, it gets %d", got)
	}
}
