package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/auth"
)

// ownCertificate is a new one, in files, for a client.
func ownCertificate(t *testing.T) (c *x509.Certificate, certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "robot"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(t.TempDir(), "c.pem"), filepath.Join(t.TempDir(), "k.pem")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c, certificate, key
}

func TestAClientShowsACertificate(t *testing.T) {
	h := newHarness(t, done)
	own, certificate, key := ownCertificate(t)
	c, err := client.New(h.URL, client.Options{Fingerprint: h.options(t).Fingerprint, Certificate: certificate, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Storages(t.Context()); !isCode(err, "unauthenticated") {
		t.Errorf("with one that is not known: %v", err)
	}
	if err := h.gate.AddCertificate(t.Context(), auth.Local("admin", auth.Admin), auth.Certificate{Name: "robot", Fingerprint: auth.Fingerprint(own), Role: auth.Viewer, Expires: own.NotAfter}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Storages(t.Context()); err != nil {
		t.Errorf("with one that is trusted: %v", err)
	}
	if _, err := c.Begin(t.Context(), asked("a.vmx")); !isCode(err, "forbidden") {
		t.Errorf("a viewer began a migration: %v", err)
	}
}
