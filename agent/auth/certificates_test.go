package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/auth"
)

// fingerprint is one of no certificate.
func fingerprint(digit string) string { return strings.Repeat(digit, 64) }

// client is a key with a certificate that it has signed itself.
func client(t *testing.T, key *ecdsa.PrivateKey, edit func(*x509.Certificate)) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, parsed
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// served answers over TLS with whom it takes a client for.
func served(t *testing.T, g *auth.Gate) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := g.Certificate(r.Context(), here, r.TLS)
		fmt.Fprintf(w, "%s %v %v", p.Name, p.Role, err)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func ask(t *testing.T, s *httptest.Server, with ...tls.Certificate) string {
	t.Helper()
	c := s.Client().Transport.(*http.Transport).Clone()
	c.TLSClientConfig.Certificates = with
	defer c.CloseIdleConnections()
	reply, err := (&http.Client{Transport: c}).Get(s.URL)
	must(t, err)
	defer reply.Body.Close()
	var text [200]byte
	n, _ := reply.Body.Read(text[:])
	return string(text[:n])
}

func TestACertificateIsKnownByItsKey(t *testing.T) {
	h := newHouse(t)
	h.Gate = auth.New(h.store, h.audit, time.Now)
	s, key := served(t, h.Gate), newKey(t)
	pair, parsed := client(t, key, nil)
	renewed, _ := client(t, key, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(2); c.ExtKeyUsage = nil })
	stranger, _ := client(t, newKey(t), nil)
	unknown := "nobody " + auth.ErrUnauthenticated.Error()
	want := map[string]string{"own": " " + unknown, "none": " " + unknown, "stranger": " " + unknown}
	got := func() map[string]string {
		return map[string]string{"own": ask(t, s, pair), "none": ask(t, s), "stranger": ask(t, s, stranger)}
	}
	if diff := cmp.Diff(want, got()); diff != "" {
		t.Error(diff)
	}
	colons := strings.ToUpper(auth.Fingerprint(parsed))
	colons = colons[:2] + ":" + colons[2:]
	must(t, h.AddCertificate(t.Context(), root, auth.Certificate{Name: "terraform", Fingerprint: colons, Role: auth.Operator}))
	want["own"] = "terraform operator <nil>"
	if diff := cmp.Diff(want, got()); diff != "" {
		t.Error(diff)
	}
	if got := ask(t, s, renewed); got != want["own"] {
		t.Errorf("renewed with the same key: %q", got)
	}
	must(t, h.RemoveCertificate(t.Context(), root, colons))
	if got := ask(t, s, pair); got != " "+unknown {
		t.Errorf("after its removal: %q", got)
	}
}

func TestACertificateOutOfTimeOrForServersIsRefused(t *testing.T) {
	h := newHouse(t)
	key := newKey(t)
	now := h.clock.Now()
	_, parsed := client(t, key, nil)
	must(t, h.AddCertificate(t.Context(), root, auth.Certificate{Name: "c", Fingerprint: auth.Fingerprint(parsed), Role: auth.Viewer, Expires: now.Add(24 * time.Hour)}))
	good := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(time.Hour) }
	for name, c := range map[string]struct {
		edit func(*x509.Certificate)
		ok   bool
	}{
		"good":            {func(*x509.Certificate) {}, true},
		"over":            {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }, false},
		"not yet":         {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }, false},
		"for servers":     {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false},
		"for anything":    {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, true},
		"for nothing set": {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, true},
	} {
		_, parsed := client(t, key, func(t *x509.Certificate) { good(t); c.edit(t) })
		state := &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{parsed}}
		if _, err := h.Certificate(t.Context(), here, state); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		state.HandshakeComplete = false
		_, err := h.Certificate(t.Context(), here, state)
		wants(t, name+" before the handshake ended", err, auth.ErrUnauthenticated)
	}
	_, err := h.Certificate(t.Context(), here, nil)
	wants(t, "no TLS", err, auth.ErrUnauthenticated)
	_, parsed = client(t, key, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now, now.Add(48*time.Hour) })
	state := &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{parsed}}
	p, err := h.Certificate(t.Context(), here, state)
	must(t, err)
	must(t, h.Recheck(t.Context(), p))
	_, parsed = client(t, key, good)
	short, err := h.Certificate(t.Context(), here, &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{parsed}})
	must(t, err)
	must(t, h.Recheck(t.Context(), short))
	h.clock.pass(time.Hour)
	wants(t, "Recheck after the certificate's end", h.Recheck(t.Context(), short), auth.ErrUnauthenticated)
	must(t, h.Recheck(t.Context(), p))
	h.clock.pass(23 * time.Hour)
	_, err = h.Certificate(t.Context(), here, state)
	wants(t, "after the admin's term", err, auth.ErrUnauthenticated)
	wants(t, "Recheck", h.Recheck(t.Context(), p), auth.ErrUnauthenticated)
}

func TestTokensOfACertificateEndWithIt(t *testing.T) {
	h := newHouse(t)
	_, parsed := client(t, newKey(t), func(c *x509.Certificate) { c.NotBefore, c.NotAfter = h.clock.Now(), h.clock.Now().Add(time.Hour) })
	must(t, h.AddCertificate(t.Context(), root, auth.Certificate{Name: "c", Fingerprint: auth.Fingerprint(parsed), Role: auth.Operator}))
	p, err := h.Certificate(t.Context(), here, &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{parsed}})
	must(t, err)
	text, _ := h.token(p, auth.NewToken{Name: "t", Role: auth.Operator})
	h.shows(text, "c", auth.Operator)
	must(t, h.RemoveCertificate(t.Context(), root, auth.Fingerprint(parsed)))
	h.refused(text)
}

func TestASeedCountsOnce(t *testing.T) {
	h := newHouse(t)
	seed := []auth.Certificate{{Name: "one", Fingerprint: fingerprint("1"), Role: auth.Admin}, {Name: "two", Fingerprint: fingerprint("2"), Role: auth.Viewer}}
	_, err := h.Seed(t.Context(), append(seed, auth.Certificate{Name: "bad", Fingerprint: "12", Role: auth.Admin})...)
	wants(t, "a seed with a bad one", err, auth.ErrInput)
	if seeded, err := h.Seed(t.Context()); seeded || err != nil || h.firstCode() == "" {
		t.Errorf("an empty seed: %v, %v, and no code", seeded, err)
	}
	seeded, err := h.Seed(t.Context(), seed...)
	if !seeded || err != nil {
		t.Errorf("Seed = %v, %v", seeded, err)
	}
	list, err := h.Certificates(t.Context(), root)
	must(t, err)
	seed[0].Added, seed[1].Added, seed[0].Seeded, seed[1].Seeded = h.clock.Now(), h.clock.Now(), true, true
	if diff := cmp.Diff(seed, list); diff != "" {
		t.Error(diff)
	}
	must(t, h.RemoveCertificate(t.Context(), root, fingerprint("1")))
	seeded, err = h.annex().Seed(t.Context(), seed...)
	if seeded || err != nil {
		t.Errorf("a second Seed = %v, %v", seeded, err)
	}
	if list, err := h.Certificates(t.Context(), root); err != nil || len(list) != 1 {
		t.Errorf("the certificates are %+v, %v", list, err)
	}
}

func TestACertificateThatCannotBeTrusted(t *testing.T) {
	h := newHouse(t)
	good := auth.Certificate{Name: "c", Fingerprint: fingerprint("c"), Role: auth.Viewer}
	must(t, h.AddCertificate(t.Context(), root, good))
	wants(t, "the same again", h.AddCertificate(t.Context(), root, good), auth.ErrExists)
	for _, c := range []auth.Certificate{
		{Name: "", Fingerprint: fingerprint("d"), Role: auth.Viewer},
		{Name: "d", Fingerprint: "", Role: auth.Viewer},
		{Name: "d", Fingerprint: fingerprint("d")[1:], Role: auth.Viewer},
		{Name: "d", Fingerprint: fingerprint("g"), Role: auth.Viewer},
		{Name: "d", Fingerprint: fingerprint("d")},
		{Name: "d", Fingerprint: fingerprint("d"), Role: auth.Viewer, Expires: h.clock.Now()},
	} {
		wants(t, fmt.Sprintf("%+v", c), h.AddCertificate(t.Context(), root, c), auth.ErrInput)
	}
	wants(t, "the removal of another", h.RemoveCertificate(t.Context(), root, fingerprint("d")), auth.ErrNotFound)
}
