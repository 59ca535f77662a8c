package serve

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"

	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/config"
)

// seed makes the clients admins whose certificates the settings name, if nobody has or
// had access.
func (a *agent) seed(ctx context.Context) error {
	path := a.settings.TLS.FirstAdmins
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: tls.firstAdmins: %w", config.ErrSettings, err)
	}
	admins, err := firstAdmins(text)
	if err != nil {
		return fmt.Errorf("%w: tls.firstAdmins: %s: %w", config.ErrSettings, path, err)
	}
	_, err = a.gate.Seed(ctx, admins...)
	return err
}

// firstAdmins are the admins of certificates in PEM, each key once.
func firstAdmins(text []byte) (admins []auth.Certificate, err error) {
	seen := map[string]bool{}
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		f := auth.Fingerprint(c)
		if !seen[f] {
			admins = append(admins, auth.Certificate{Name: nameOf(c, len(admins)+1), Fingerprint: f, Role: auth.Admin})
		}
		seen[f] = true
	}
	if len(admins) == 0 {
		return nil, errors.New("holds no certificate in PEM")
	}
	return admins, nil
}

// inNames is what a name of a certificate here does not have.
var inNames = regexp.MustCompile(`^[^A-Za-z0-9]+|[^A-Za-z0-9 ._:@/-]`)

// nameOf is what an admin's certificate is called: as far as it can be, as it calls itself.
func nameOf(c *x509.Certificate, n int) string {
	name := inNames.ReplaceAllString(c.Subject.CommonName, "")
	if name = inNames.ReplaceAllString(name, ""); name == "" {
		return fmt.Sprintf("first admin %d", n)
	}
	return name[:min(len(name), 63)]
}
