package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const body = `{"migration":"m1"}`

func TestARequestIsSigned(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || string(got) != body || r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Hyper2kvm-Delivery") != "d1" {
			t.Errorf("it got %s %q, %v, %v", r.Method, got, err, r.Header)
		}
		// As a receiver does it that has only read how.
		mac := hmac.New(sha256.New, []byte("key"))
		mac.Write([]byte(r.Header.Get("Hyper2kvm-Timestamp") + "." + body))
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); r.Header.Get("Hyper2kvm-Signature") != want {
			t.Errorf("signature %q, want %q", r.Header.Get("Hyper2kvm-Signature"), want)
		}
		io.WriteString(w, "thanks")
	}))
	defer server.Close()
	target := Target{URL: server.URL, Key: []byte("key"), Roots: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	if answer, err := target.Post(t.Context(), "d1", []byte(body)); err != nil || string(answer) != "thanks" {
		t.Errorf("Post = %q, %v", answer, err)
	}
	for name, roots := range map[string]*x509.CertPool{"the host's": nil, "nobody's": x509.NewCertPool()} {
		target.Roots = roots
		if _, err := target.Post(t.Context(), "d1", []byte(body)); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("a server whose certificate is not of %s authorities: %v", name, err)
		}
	}
}

func TestAnUnsignedRequestHasNoSignature(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Header[SignatureHeader]; ok {
			t.Error("it is signed with nothing")
		}
	}))
	defer server.Close()
	if _, err := (Target{URL: server.URL}).Post(t.Context(), "d1", nil); err != nil {
		t.Error(err)
	}
}

func TestARefusalIsTold(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
		case "/busy":
			w.Header().Set("Retry-After", "120")
			http.Error(w, "come\nback", http.StatusTooManyRequests)
		case "/flood":
			w.WriteHeader(http.StatusBadGateway)
			w.Write(make([]byte, 10<<20))
		case "/no":
			http.Error(w, "no", http.StatusForbidden)
		}
	}))
	defer server.Close()
	for path, want := range map[string]struct {
		words   string
		lasting bool
		after   time.Duration
	}{
		"/away":  {"it answered 307 Temporary Redirect, which is not followed", true, 0},
		"/busy":  {`it answered 429 Too Many Requests: "come back"`, false, 2 * time.Minute},
		"/flood": {"it answered 502 Bad Gateway", false, 0},
		"/no":    {`it answered 403 Forbidden: "no"`, true, 0},
	} {
		asked = 0
		answer, err := Target{URL: server.URL + path}.Post(t.Context(), "d1", nil)
		refused, ok := errors.AsType[*Refused](err)
		if !ok || !strings.HasPrefix(err.Error(), want.words) || refused.Lasting() != want.lasting || refused.After != want.after {
			t.Errorf("%s: Post = %v, want %+v", path, err, want)
		}
		if len(answer) > maxAnswer || asked != 1 {
			t.Errorf("%s: %d bytes were read of %d answers", path, len(answer), asked)
		}
	}
}

// An address may be a secret.
func TestNoErrorHasTheAddress(t *testing.T) {
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	defer server.Close()
	defer close(stop)
	slow := errors.New("out of time")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, slow)
	defer cancel()
	if _, err := (Target{URL: server.URL + "/hunter2"}).Post(ctx, "d1", nil); !errors.Is(err, slow) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Post to one that does not answer = %v", err)
	}
	for _, address := range []string{"http://127.0.0.1:1/hunter2", "http://127.0.0.1:\x7f/hunter2", "ftp://127.0.0.1/hunter2", "hunter2", "https://%zz/hunter2"} {
		if _, err := (Target{URL: address}).Post(t.Context(), "d1", nil); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Post to %q = %v", address, err)
		}
	}
}
