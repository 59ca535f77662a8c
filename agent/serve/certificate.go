package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hyper2kvm/agent/config"
	"hyper2kvm/pipeline/durable"
)

// life is how long a certificate of our own lasts. Whoever trusts it compares its
// fingerprint, so a new one is worth nothing.
const life = 10 * 365 * 24 * time.Hour

// certificate is the one that the settings name, or one of the agent's own.
func certificate(s *config.Settings) (tls.Certificate, error) {
	if s.TLS.Certificate != "" {
		c, err := tls.LoadX509KeyPair(s.TLS.Certificate, credential(s.TLS.Key))
		if err != nil {
			return c, fmt.Errorf("%w: tls: %w", config.ErrSettings, err)
		}
		return c, nil
	}
	return ownCertificate(filepath.Join(s.State, "tls"), s.Appliance.Name)
}

// credential is where a file is that may be a credential of systemd's.
func credential(name string) string {
	if own, ok := strings.CutPrefix(name, "credential:"); ok {
		return filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), own)
	}
	return name
}

// ownCertificate is the agent's own, made once: key and certificate are one file, which
// is there whole or not at all.
func ownCertificate(folder, name string) (tls.Certificate, error) {
	path := filepath.Join(folder, "own.pem")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = selfSigned(name, addresses()); err != nil {
			return tls.Certificate{}, err
		}
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return tls.Certificate{}, err
		}
		err = durable.Write(path, text)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	c, err := tls.X509KeyPair(text, text)
	if err != nil {
		return c, fmt.Errorf("%s: %w; remove it, and another one is made", path, err)
	}
	return c, nil
}

// selfSigned is a new key with a certificate for a name and addresses, PEM.
func selfSigned(name string, addresses []net.IP) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name, "localhost"}, IPAddresses: addresses,
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...), nil
}

// addresses are this host's, as far as they are known when the certificate is made.
func addresses() (list []net.IP) {
	all, err := net.InterfaceAddrs()
	if err != nil { // the fingerprint is what counts
		return nil
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			list = append(list, n.IP)
		}
	}
	return list
}

// fingerprint is a certificate's SHA-256, as browsers and openssl show it.
func fingerprint(c tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	var parts []string
	for _, b := range sum {
		parts = append(parts, strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	return strings.Join(parts, ":")
}
