package serve

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/engine/enginetest"
)

// send asks for something over the socket.
func (a *appliance) send(t *testing.T, method, path, body string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://appliance/api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	reply, err := a.local().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reply.Body)
	if err := errors.Join(err, reply.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, text
}

// planted are secrets that an agent was given, by what they are.
func planted(t *testing.T, a *appliance) map[string]string {
	t.Helper()
	const password, secret = "seven quiet otters swim", "passphrase-of-a-guests-disk"
	if status, text := a.send(t, "POST", "/users", `{"name":"marta","role":"operator","password":"`+password+`"}`); status >= 300 {
		t.Fatalf("%d: %s", status, text)
	}
	if status, text := a.send(t, "PUT", "/secrets/files-luks", `{"value":"`+secret+`"}`); status >= 300 {
		t.Fatalf("%d: %s", status, text)
	}
	var token struct{ Text string }
	_, text := a.send(t, "POST", "/tokens", `{"name":"ci","role":"viewer"}`)
	if err := json.Unmarshal(text, &token); err != nil || token.Text == "" {
		t.Fatalf("%v: %s", err, text)
	}
	key, err := os.ReadFile(filepath.Join(a.folder, "state", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(a.folder, "state", "tls", "own.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"a password": password, "a secret": secret, "a token": token.Text, "the seal's key": strings.TrimSpace(string(key)), "the certificate's key": strings.Split(string(own), "\n")[1], "a hash": "argon2id"}
}

// TestTheSupportBundleHoldsNoSecret, though some were logged and written into evidence.
func TestTheSupportBundleHoldsNoSecret(t *testing.T) {
	folder := t.TempDir()
	a := started(t, folder, "")
	secrets := planted(t, a)
	if status, text := a.send(t, "POST", "/migrations", `{"id":"web01","spec":{"mode":"inspect","source":{"storage":"from","path":"none.vmx"},"target":{"storage":"to"},"keys":[{"device":"all","secret":"files-luks"}]}}`); status != 202 {
		t.Fatalf("%d: %s", status, text)
	}
	a.send(t, "GET", "/migrations?name="+secrets["a token"], "")
	a.running.log.Error("what must not be logged", "token", secrets["a token"], "err", "password="+strings.ReplaceAll(secrets["a password"], " ", "-")+"-wrong")
	evidence := "serial log with " + secrets["a token"] + "\n"
	if err := a.running.engine.Keep(t.Context(), "web01", []engine.File{enginetest.File("evidence/serial.log", evidence)}); err != nil {
		t.Fatal(err)
	}
	status, text := a.send(t, "POST", "/support-bundle", "")
	if status != 200 {
		t.Fatalf("%d: %s", status, text)
	}
	files := opened(t, text)
	for name, text := range files {
		for what, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s shows %s", name, what)
			}
		}
	}
	for name, want := range map[string]string{"versions.json": "qemu-img", "host.json": "accelerator", "settings.yaml": "storages:", "engine.json": "KV_jobs", "appliances.json": `"a1"`, "storages.json": `"Free"`,
		"log.txt": "what must not be logged", "system.txt": "MemTotal", "migrations/web01/migration.json": "files-luks", "migrations/web01/files/evidence/serial.log": "serial log with [secret]"} {
		if !bytes.Contains(files[name], []byte(want)) {
			t.Errorf("%s has no %s: %.300s", name, want, files[name])
		}
	}
	if _, ok := files["journal.txt"]; !ok && !bytes.Contains(files["problems.txt"], []byte("journal.txt: ")) {
		t.Errorf("the journal is missing, and problems.txt says only %s", files["problems.txt"])
	}
}

// opened are the files of a bundle.
func opened(t *testing.T, text []byte) map[string][]byte {
	t.Helper()
	packed, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for in := tar.NewReader(packed); ; {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[head.Name], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
	}
}
