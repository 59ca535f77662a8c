package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
)

// packed are the names in a tar archive.
func packed(t *testing.T, r io.Reader) string {
	t.Helper()
	var names []string
	in := tar.NewReader(r)
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, head.Name)
	}
}

func TestArchivesAreForAdmins(t *testing.T) {
	h := newHarness(t, done)
	var op model.Operation
	h.ask(t, "operator", "POST", "/migrations", request("a.vmx")).into(t, &op)
	h.until(t, op.Migration, model.StateDone)
	h.want(t, "operator", "POST", "/backup", nil, 403, "forbidden")
	h.want(t, "operator", "POST", "/support-bundle", nil, 403, "forbidden")
	h.want(t, "admin", "POST", "/backup", nil, 403, "forbidden") // a token that does not name access:write
	h.want(t, "socket", "POST", "/backup", map[string]string{"passphrase": "short"}, 400, "bad-request")
	a := h.want(t, "socket", "POST", "/backup", map[string]string{"passphrase": "correct horse battery"}, 200, "")
	if got := packed(t, bytes.NewReader(a.body)); !strings.HasPrefix(got, "backup.json settings.yaml streams/EVENTS.json ") || !strings.HasSuffix(got, " keys.json manifest.json") || !strings.Contains(a.header.Get("Content-Disposition"), "hyper2kvm-a1-") {
		t.Errorf("the backup %s holds %s", a.header.Get("Content-Disposition"), got)
	}
	a = h.want(t, "admin", "POST", "/support-bundle?migrations=5", nil, 200, "")
	r, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if got := packed(t, r); !strings.Contains(got, "versions.json") || !strings.Contains(got, "migrations/"+op.Migration+"/migration.json") || !strings.HasSuffix(got, "problems.txt") {
		t.Errorf("the bundle holds %s", got)
	}
	if got := h.recorded(t, "makeBackup"); got != "done refused refused refused" {
		t.Errorf("recorded is %s", got)
	}
}

// TestAnArchiveThatDoesNotEndIsCutOff: nobody takes it for a whole one.
func TestAnArchiveThatDoesNotEndIsCutOff(t *testing.T) {
	a := archive{server: &server{Config: Config{Log: slog.New(slog.DiscardHandler)}}, close: func() error { return nil }, content: func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1<<20))
		return errors.Join(err, errors.New("the engine is gone"))
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := a.VisitMakeBackupResponse(w); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	reply, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, reply.Body)
	if err := errors.Join(err, reply.Body.Close()); err == nil {
		t.Errorf("it ended as if it were whole, after %d bytes", n)
	}
}
