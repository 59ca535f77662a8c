package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// baseOVA puts what an OVA needs into a file, with a text as its disk.
func baseOVA(t *testing.T, path string) {
	t.Helper()
	descriptor := `<Envelope xmlns:ovf="x"><References><File ovf:href="d.vmdk"/></References><VirtualSystem><ProductSection><Property ovf:key="hostname"/><Property ovf:key="ssh-key"/></ProductSection></VirtualSystem></Envelope>`
	disk := "KDMV" + strings.Repeat("0123456789abcdef", 10_000)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range [][2]string{{"a.ovf", descriptor}, {"a.mf", fmt.Sprintf("SHA256(a.ovf)= %x\nSHA256(d.vmdk)= %x\n", sha256.Sum256([]byte(descriptor)), sha256.Sum256([]byte(disk)))}, {"d.vmdk", disk}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAnImageIsMadeAndFetchedFromTheCommandLine(t *testing.T) {
	socket := served(t)
	baseOVA(t, filepath.Join(filepath.Dir(socket), "s", "base.ova"))
	folder := t.TempDir()
	path, key := filepath.Join(folder, "mover2.ova"), filepath.Join(folder, "key.pub")
	if err := os.WriteFile(key, []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJg8QbJ3H9xg2v1v6p0k0yG0c2mXo3tS0q3o3i0fJk8R marta\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := []string{"image", "make", "--form", "ova", "--hostname", "mover2", "--ssh-key", key, "--base", "s:base.ova"}
	asked(t, socket, 0, append(made, "-o", path)...)
	whole, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(whole, []byte(`ovf:value="mover2"`)) || !bytes.Contains(whole, []byte("marta")) {
		t.Fatalf("fetched are %d bytes, %v", len(whole), err)
	}
	list := asked(t, socket, 0, "image", "list")
	id := strings.Fields(list)[5]
	again := filepath.Join(folder, "again")
	if err := os.WriteFile(again+"."+id+partly, bytes.Repeat([]byte("x"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	asked(t, socket, 0, "image", "fetch", id, "-o", again)
	if got, err := os.ReadFile(again); err != nil || !bytes.Equal(got[1000:], whole[1000:]) || got[999] != 'x' {
		t.Errorf("it was not gone on with: %d bytes, %v", len(got), err)
	}
	if said := asked(t, socket, 1, append(made, "-o", path)...); !strings.Contains(said, "is there already") {
		t.Errorf("over another one: %s", said)
	}
	asked(t, socket, 0, "image", "remove", id)
	if said := asked(t, socket, 3, "image", "fetch", id, "-o", again+"2"); !strings.Contains(said, "no such download") {
		t.Errorf("after its end: %s", said)
	}
	if said := asked(t, socket, 3, "image", "make", "--address", "192.0.2.1", "-o", again+"3"); !strings.Contains(said, "lacks its prefix length") {
		t.Errorf("a wrong address: %s", said)
	}
	asked(t, socket, 2, "image", "make", "--base", "base.ova")
}
