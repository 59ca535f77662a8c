package client

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestAStreamThatFallsSilentIsTakenUpAgain plays a network that loses a connection and
// says nothing.
func TestAStreamThatFallsSilentIsTakenUpAgain(t *testing.T) {
	var streams atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := streams.Add(1)
		if want := []string{"", "1"}[n-1]; r.Header.Get("Last-Event-ID") != want {
			t.Errorf("stream %d begins after %q, want %q", n, r.Header.Get("Last-Event-ID"), want)
		}
		fmt.Fprintf(w, "id: %d\nevent: migration\ndata: {\"text\":\"%[1]d\"}\n\n", n)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	c, err := New(s.URL, Options{Fingerprint: shown([]*x509.Certificate{s.Certificate()})})
	if err != nil {
		t.Fatal(err)
	}
	c.quiet = time.Second
	began, texts := time.Now(), ""
	for e, err := range c.Events(t.Context(), "", Now) {
		if err != nil {
			t.Fatal(err)
		}
		if texts += e.Text; texts == "12" {
			break
		}
	}
	if texts != "12" || streams.Load() != 2 || time.Since(began) > 5*time.Second {
		t.Errorf("events %s of %d streams, in %v", texts, streams.Load(), time.Since(began))
	}
}
