package firstboot

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// machine is a root folder with the files of a kernel: what first boot sees of a real
// machine. It does not prove that a kernel has them so; the appliance's own boot does.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) machine {
	m := machine{t, t.TempDir()}
	m.card("eth0", "00:50:56:01:02:03", "0")
	return m
}

func (m machine) put(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) card(name, mac, assigned string) {
	m.put("sys/class/net/"+name+"/type", "1\n")
	m.put("sys/class/net/"+name+"/address", mac+"\n")
	m.put("sys/class/net/"+name+"/addr_assign_type", assigned+"\n")
	m.put("sys/class/net/"+name+"/device/vendor", "0x15ad\n")
}

// disk has a device, or a partition of one.
func (m machine) disk(name, part string, image []byte) {
	device := name
	m.put("sys/block/"+name+"/size", "2048\n")
	if part != "" {
		m.put("sys/block/"+name+"/"+part+"/partition", "1\n")
		device = part
	}
	m.put("dev/"+device, string(image))
}

func (m machine) seed(format string, values map[string]string) {
	m.t.Helper()
	m.disk("sr0", "", image(m.t, format, values))
}

func (m machine) boot(ask GuestInfo) Report {
	m.t.Helper()
	r, err := Boot{m.root, ask}.Run(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	kept, err := ReadReport(m.root)
	if err != nil || len(kept.Problems) != len(r.Problems) || kept.Network != r.Network {
		m.t.Errorf("the report is %+v, %v, want %+v", kept, err, r)
	}
	return r
}

// etc are all files below etc, with their modes if they are private.
func (m machine) etc() map[string]string {
	m.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(m.root, "etc"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(m.root, path)
		if info.Mode().Perm()&0o077 == 0 {
			name += " private"
		}
		files[name] = string(text)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return files
}

func (m machine) network() string { return m.etc()[networkPath] }

func image(t testing.TB, format string, values map[string]string) []byte {
	t.Helper()
	s, err := NewSeed(maps.Clone(values))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "seed")
	if err := s.Write(t.Context(), path, format, false); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// pair is a certificate with its key, PEM.
func pair(t testing.TB, name string) (certificate, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFgk3lGmEtGqQ7ZmJqkzHvTzFfJzXq8n5h3cJ0m0JX0Y marta"

// token has the form of one that a hub makes.
func token(t testing.TB) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"a": []string{"hub.example.org:8443"}, "f": make([]byte, 32), "i": strings.Repeat("A", 20)})
	if err != nil {
		t.Fatal(err)
	}
	return "h2kjoin_" + base64.RawURLEncoding.EncodeToString(append(make([]byte, 32), body...))
}

// variables are VMware's, which cannot be had here: that its tools answer so is known
// from their source alone.
func variables(v map[string]string) GuestInfo {
	return func(_ context.Context, name string) (string, error) { return v[name], nil }
}

func one(t *testing.T, problems []string, want string) {
	t.Helper()
	if len(problems) != 1 || !strings.Contains(problems[0], want) {
		t.Errorf("the problems are %q, want %q", problems, want)
	}
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
