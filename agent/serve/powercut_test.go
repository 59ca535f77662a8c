package serve

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/pipeline/durable/durabletest"
)

// TestWhatWasAnsweredOutlivesAPowerCut at the moment at which it was answered.
func TestWhatWasAnsweredOutlivesAPowerCut(t *testing.T) {
	d := durabletest.New(t)
	a := started(t, d.Folder, "")
	id, err := engine.Identity(filepath.Join(d.Folder, "state"))
	if err != nil {
		t.Fatal(err)
	}
	shown := a.fingerprint(t)
	var token struct{ Text string }
	for _, c := range []struct {
		name    string
		do      func()
		path    string
		has     string
		asOther bool
	}{
		{"the first start", func() {}, "/users", `"items":[]`, false},
		{"the setup", func() {
			var code struct{ Code string }
			a.once(t, "/setup/code", "", &code)
			a.once(t, "/setup", fmt.Sprintf(`{"code":%q,"name":"marta","password":"seven quiet otters swim"}`, code.Code), new(model.Session))
		}, "/users", `"marta"`, false},
		{"a token", func() { a.once(t, "/tokens", `{"name":"nightly","role":"operator"}`, &token) }, "/tokens", `"nightly"`, true},
		{"a secret", func() { a.answers(t, "PUT", "/secrets/files-luks", `{"value":"eleven-lost-lemurs-leap"}`) }, "/secrets", `"files-luks"`, false},
		{"a migration", func() {
			a.answers(t, "POST", "/migrations", `{"id":"m1","spec":{"name":"m1","source":{"storage":"from","path":"absent.raw"},"target":{"storage":"to"},"engine":"direct"}}`)
		}, "/migrations/m1", `"m1"`, false},
		{"a part of an upload", func() { a.uploads(t, "bytes 0-4/10", "first") }, "/storages/from/uploads/disk.raw", `"offset":5`, false},
		{"an upload", func() { a.uploads(t, "bytes 5-9/10", "other") }, "/storages/from/files/disk.raw", "firstother", false},
	} {
		c.do()
		t.Run(c.name, func(t *testing.T) {
			after := startedSaying(t, d.Cut(t), "", "https://")
			defer after.stop(t)
			if got := after.fingerprint(t); got != shown {
				t.Errorf("its certificate was %s and is %s", shown, got)
			}
			if got, err := engine.Identity(filepath.Join(after.folder, "state")); got != id || err != nil {
				t.Errorf("it was %s and is %s, %v", id, got, err)
			}
			if status, text := after.send(t, "GET", c.path, ""); status != http.StatusOK || !strings.Contains(strings.ReplaceAll(string(text), " ", ""), c.has) {
				t.Errorf("%s is %d, %s", c.path, status, text)
			}
			if !c.asOther {
				return
			}
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+after.address(t)+"/api/v1/migrations", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token.Text)
			reply, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := reply.Body.Close(); err != nil || reply.StatusCode != http.StatusOK {
				t.Errorf("with the token one gets %d, %v", reply.StatusCode, err)
			}
		})
	}
}

// answers sends what is to be done.
func (a *appliance) answers(t *testing.T, method, path, body string) {
	t.Helper()
	if status, text := a.send(t, method, path, body); status > 299 {
		t.Fatalf("%s %s is answered with %d, %s", method, path, status, text)
	}
}

// uploads sends a part of a file of ten bytes.
func (a *appliance) uploads(t *testing.T, part, content string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "PUT", "http://appliance/api/v1/storages/from/uploads/disk.raw", strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("Content-Range", part)
	r.Header.Set("Repr-Digest", fmt.Sprintf("sha-256=:%s:", base64.StdEncoding.EncodeToString(digest("firstother"))))
	reply, err := a.local().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil || reply.StatusCode > 299 {
		t.Fatalf("%s is answered with %d, %v", part, reply.StatusCode, err)
	}
}

func digest(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// fingerprint is that of the certificate, as it is shown.
func (a *appliance) fingerprint(t *testing.T) string {
	t.Helper()
	c, err := ownCertificate(filepath.Join(a.folder, "state", "tls"), "a1")
	if err != nil {
		t.Fatal(err)
	}
	got := fingerprint(c)
	if !strings.Contains(a.out.String(), got) {
		t.Errorf("it does not show the certificate that it has: %s", a.out)
	}
	return got
}
