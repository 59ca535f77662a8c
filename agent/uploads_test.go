package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asked runs a command against an agent, and returns what it prints.
func asked(t *testing.T, socket string, status int, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if got := run(t.Context(), append([]string{"--appliance", "unix:" + socket}, args...), &stdout, &stderr); got != status {
		t.Errorf("%v: %d, want %d: %s%s", args, got, status, &stdout, &stderr)
	}
	return stdout.String() + stderr.String()
}

func TestAFileIsUploadedFromTheCommandLine(t *testing.T) {
	socket := served(t)
	there := filepath.Join(filepath.Dir(socket), "s", "a disk.vmdk")
	file := filepath.Join(t.TempDir(), "disk.vmdk")
	whole := bytes.Repeat([]byte("0123456789abcdef"), 10<<20) // three parts
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	begin(t, socket, whole[:1000], len(whole))
	asked(t, socket, 0, "upload", file, "s:a disk.vmdk")
	if got, err := os.ReadFile(there); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("uploaded are %d bytes, %v", len(got), err)
	}
	if said := asked(t, socket, 3, "upload", file, "s:a disk.vmdk"); !strings.Contains(said, "there is a file of this name") {
		t.Errorf("once more: %s", said)
	}
	asked(t, socket, 0, "upload", "--replace", file, "s:a disk.vmdk")
	if said := asked(t, socket, 3, "upload", file, "vddk"); !strings.Contains(said, "no tar.gz") {
		t.Errorf("as a library: %s", said)
	}
	asked(t, socket, 3, "upload", file+"-none", "vddk")
	asked(t, socket, 2, "upload", file)
	asked(t, socket, 2, "upload", file, "nowhere")
}

// begin uploads the start of a file, as a command that was interrupted has.
func begin(t *testing.T, socket string, part []byte, size int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "PUT", "http://agent/api/v1/storages/s/uploads/a%20disk.vmdk", bytes.NewReader(part))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(part)-1, size))
	reply, err := local(socket).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Body.Close(); err != nil || reply.StatusCode != 202 || reply.Header.Get("Upload-Offset") != "1000" {
		t.Fatalf("%d, %v", reply.StatusCode, err)
	}
}

func TestArchivesAreWrittenByTheCommandLine(t *testing.T) {
	socket := served(t)
	folder := t.TempDir()
	for _, c := range []struct{ command, suffix string }{{"backup", ".backup.tar"}, {"support-bundle", ".support.tar.gz"}} {
		path := strings.TrimSpace(asked(t, socket, 0, c.command, "--to", folder))
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 || !strings.HasSuffix(path, c.suffix) {
			t.Errorf("%s wrote %s: %v, %v", c.command, path, info, err)
		}
	}
	asked(t, socket, 2, "backup", "--passphrase", "on the command line")
	if list, err := os.ReadDir(folder); err != nil || len(list) != 2 {
		t.Errorf("there are %v, %v", list, err)
	}
}
