package webfile

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// breaking is a server that ends each connection after some bytes.
type breaking struct {
	content []byte
	piece   int
	asked   []string
	tag     func() string
	ranges  bool
}

func (s *breaking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.Header.Get("Range"))
	w.Header().Set("ETag", s.tag())
	if !s.ranges {
		r.Header.Del("Range")
	}
	http.ServeContent(&short{w, s.piece}, r, "", time.Time{}, bytes.NewReader(s.content))
}

// short breaks off.
type short struct {
	http.ResponseWriter
	left int
}

func (s *short) Write(b []byte) (int, error) {
	if len(b) > s.left {
		n, _ := s.ResponseWriter.Write(b[:s.left])
		_ = http.NewResponseController(s.ResponseWriter).Flush() // so that it arrives
		panic(fmt.Sprint(http.ErrAbortHandler, n))
	}
	s.left -= len(b)
	return s.ResponseWriter.Write(b)
}

func started(t *testing.T, s *breaking) (*httptest.Server, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func read(t *testing.T, s *breaking) ([]byte, error) {
	t.Helper()
	server, ca := started(t, s)
	f, err := Open(t.Context(), server.URL, ca)
	if err != nil {
		return nil, err
	}
	f.pause = time.Millisecond
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	return io.ReadAll(f)
}

func always(tag string) func() string { return func() string { return tag } }

func content(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 1<<20)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAFileIsGoneOnWithWhereItBrokeOff(t *testing.T) {
	s := &breaking{content: content(t), piece: 300 << 10, tag: always(`"a"`), ranges: true}
	got, err := read(t, s)
	if err != nil || !bytes.Equal(got, s.content) || len(s.asked) < 3 || !strings.HasPrefix(s.asked[1], "bytes=") {
		t.Errorf("%d bytes of %d, %v, by %q", len(got), len(s.content), err, s.asked)
	}
}

func TestAnotherFileIsNotGoneOnWith(t *testing.T) {
	n := 0
	for _, s := range []*breaking{
		{content: content(t), piece: 300 << 10, ranges: true, tag: func() string { n++; return fmt.Sprintf(`"%d"`, n) }},
		{content: content(t), piece: 300 << 10, tag: always(`"a"`)},
	} {
		if _, err := read(t, s); !errors.Is(err, errOther) || !errors.Is(err, ErrServer) {
			t.Errorf("%v", err)
		}
	}
}

func TestAServerThatBringsNothingIsGivenUp(t *testing.T) {
	s := &breaking{content: content(t), piece: 0, tag: always(`"a"`), ranges: true}
	if _, err := read(t, s); !errors.Is(err, ErrServer) || len(s.asked) > tries+1 {
		t.Errorf("%v after %d tries", err, len(s.asked))
	}
}

func TestOnlyTrustedServersAreAsked(t *testing.T) {
	server, ca := started(t, &breaking{content: []byte("x"), piece: 9, tag: always(`"a"`)})
	for address, ca := range map[string]string{server.URL: "", strings.Replace(server.URL, "https", "http", 1): ca, "https://": ca, server.URL + "/": "no certificate"} {
		if _, err := Open(t.Context(), address, ca); !errors.Is(err, ErrServer) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
