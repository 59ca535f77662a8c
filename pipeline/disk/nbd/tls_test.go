package nbd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTLSIsSpokenWhenAskedForAndNeverWithout(t *testing.T) {
	pool, dir := certificate(t)
	o, _ := nbdkit(t, "--tls=require", "--tls-certificates="+dir, "--tls-verify-peer", "memory", "40M")
	plain, _ := nbdkit(t, "--tls=off", "memory", "40M")
	secured := func(o Options, config *tls.Config) Options { o.TLS = config; return o }
	pair := keyPair(t, dir)
	good := &tls.Config{RootCAs: pool, ServerName: "disks.example", Certificates: []tls.Certificate{pair}}
	exercise(t, dial(t, secured(o, good)))
	for name, test := range map[string]struct {
		o    Options
		says string
	}{
		"a server that wants TLS":          {o, "wants TLS"},
		"a server that has none":           {secured(plain, good), "TLS"},
		"a certificate of another":         {secured(o, &tls.Config{RootCAs: pool, ServerName: "other.example"}), "other.example"},
		"a certificate by someone unknown": {secured(o, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "disks.example"}), "unknown authority"},
	} {
		if _, err := Dial(t.Context(), test.o); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("Dial of %s = %v, want %v and %q", name, err, ErrRefused, test.says)
		}
	}
}

func keyPair(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server-cert.pem"), filepath.Join(dir, "server-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// certificate makes an authority and a certificate of disks.example by it, in
// files named as nbdkit wants them.
func certificate(t *testing.T) (*x509.CertPool, string) {
	t.Helper()
	dir, pool := t.TempDir(), x509.NewCertPool()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"disks.example"}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signer, key := newKey(t), newKey(t)
	pool.AddCert(issue(t, filepath.Join(dir, "ca-cert.pem"), authority, authority, signer, signer))
	issue(t, filepath.Join(dir, "server-cert.pem"), server, authority, key, signer)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "server-key.pem"), "PRIVATE KEY", der)
	return pool, dir
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t *testing.T, path string, what, by *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, what, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path, "CERTIFICATE", der)
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
