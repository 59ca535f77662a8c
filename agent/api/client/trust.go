package client

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ErrTrust is an appliance that is not the one that is trusted.
var ErrTrust = errors.New("this appliance is not trusted")

// trust is what a connection asks of the appliance's certificate: that it is the one of
// the fingerprint, or signed by a CA that is known.
func (o Options) trust() (*tls.Config, error) {
	c := &tls.Config{MinVersion: minTLS}
	if o.Fingerprint != "" && o.CA != "" {
		return nil, fmt.Errorf("%w: a fingerprint and a CA are two ways to trust it: give one", ErrOptions)
	}
	if o.Fingerprint != "" {
		want, err := parseFingerprint(o.Fingerprint)
		if err != nil {
			return nil, err
		}
		c.InsecureSkipVerify, c.VerifyConnection = true, pinned(want) // instead of names and issuers
	}
	if o.CA != "" {
		text, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("%w: the CA: %w", ErrOptions, err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%w: %s holds no certificate in PEM", ErrOptions, o.CA)
		}
	}
	if o.Certificate != "" || o.Key != "" {
		own, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: one's own certificate: %w", ErrOptions, err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c, nil
}

// pinned lets through the one certificate of a digest, on resumed connections too.
func pinned(want [sha256.Size]byte) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) > 0 && sha256.Sum256(s.PeerCertificates[0].Raw) == want {
			return nil
		}
		return fmt.Errorf("%w: its certificate's SHA-256 is %s, and not the fingerprint that was given: it has a new certificate, or somebody is in between", ErrTrust, shown(s.PeerCertificates))
	}
}

func shown(chain []*x509.Certificate) string {
	if len(chain) == 0 {
		return "none"
	}
	sum := sha256.Sum256(chain[0].Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

func parseFingerprint(text string) (sum [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("%w: %q is no fingerprint: write the SHA-256 of its certificate as the appliance shows it, 64 hexadecimal digits", ErrOptions, text)
	}
	return [sha256.Size]byte(b), nil
}

// untrusted is an error of a certificate that nobody vouches for, with what to do.
func untrusted(err error) error {
	bad, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return err
	}
	return fmt.Errorf("%w: %w; its certificate's SHA-256 is %s: compare that with what the appliance shows, and give it with --fingerprint, or its CA with --ca", ErrTrust, bad.Err, shown(bad.UnverifiedCertificates))
}

// maxToken is longer than any token, bytes.
const maxToken = 4 << 10

// token is what the token's file holds; "" if there is none.
func (o Options) token() (string, error) {
	if o.TokenFile == "" {
		return "", nil
	}
	path, own := strings.CutPrefix(o.TokenFile, "credential:")
	if own {
		path = filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w: the token: %w", ErrOptions, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !own && info.Mode().Perm()&0o077 != 0 { // systemd looks after credentials itself
		err = fmt.Errorf("others can read %s: run chmod 600 %[1]s", path)
	}
	if err != nil {
		return "", fmt.Errorf("%w: the token: %w", ErrOptions, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	text = bytes.TrimSpace(text)
	if err != nil || len(text) == 0 || len(text) > maxToken || bytes.ContainsAny(text, " \t\r\n") {
		return "", errors.Join(fmt.Errorf("%w: %s does not hold one token", ErrOptions, path), err)
	}
	return string(text), nil
}
