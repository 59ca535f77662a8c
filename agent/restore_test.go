package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// over asks an agent for something over its socket.
func over(t *testing.T, socket, method, path, body string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://agent/api/v1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	reply, err := local(socket).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reply.Body)
	if err := errors.Join(err, reply.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, text
}

// TestABackupBecomesAnAppliance: of an agent that runs, for one that is started then.
func TestABackupBecomesAnAppliance(t *testing.T) {
	folder := t.TempDir()
	archive, settings := filepath.Join(folder, "a.backup.tar"), settled(t, folder)
	t.Run("backup", func(t *testing.T) {
		socket := served(t)
		if status, text := over(t, socket, "POST", "/migrations", `{"id":"web01","spec":{"source":{"storage":"s","path":"none.vmx"},"target":{"storage":"t"},"schedule":{"start":"2100-01-01T00:00:00Z"}}}`); status != 202 {
			t.Fatalf("%d: %s", status, text)
		}
		if status, text := over(t, socket, "PUT", "/secrets/files-luks", `{"value":"open sesame"}`); status >= 300 {
			t.Fatalf("%d: %s", status, text)
		}
		status, text := over(t, socket, "POST", "/backup", `{"passphrase":"correct horse battery"}`)
		if status != 200 {
			t.Fatalf("%d: %s", status, text)
		}
		if err := os.WriteFile(archive, text, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	key := filepath.Join(folder, "passphrase")
	for name, text := range map[string]string{key: "correct horse battery\n", key + "-wrong": "wrong horse battery\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restore := func(status int, want string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		got := run(t.Context(), append([]string{"restore", "--config", settings}, args...), &stdout, &stderr)
		if said := stdout.String() + stderr.String(); got != status || !strings.Contains(said, want) {
			t.Errorf("restore %v: %d, %s, want %d, %s", args, got, said, status, want)
		}
	}
	restore(2, "takes one ARCHIVE")
	restore(2, "--passphrase takes no passphrase", "--passphrase", "secret", archive)
	restore(3, "no such file", archive+"-none")
	restore(3, "does not open the keys", "--passphrase", "file:"+key+"-wrong", archive)
	restore(0, "restored ", "--passphrase", "file:"+key, archive)
	restore(3, "is not empty: stop the agent", archive)
	socket := servedIn(t, folder)
	if status, text := over(t, socket, "GET", "/migrations/web01", ""); status != 200 || !bytes.Contains(text, []byte("2100-01-01")) {
		t.Errorf("its migration: %d %s", status, text)
	}
	if status, text := over(t, socket, "GET", "/secrets", ""); status != 200 || !bytes.Contains(text, []byte("files-luks")) {
		t.Errorf("its secrets: %d %s", status, text)
	}
}
