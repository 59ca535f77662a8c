package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// certificate is what is kept of one.
type certificate struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role"`
	Seeded  bool      `json:"seeded,omitempty"`
	Added   time.Time `json:"added"`
	Expires time.Time `json:"expires,omitzero"`
}

func (c *certificate) ended(now time.Time) bool {
	return !c.Expires.IsZero() && !now.Before(c.Expires)
}

// Certificate is a client's key that is trusted, by its fingerprint: who issued the
// certificate does not matter, and one that is renewed with its key stays trusted.
type Certificate struct {
	Name        string
	Fingerprint string // see Fingerprint
	Role        Role
	Expires     time.Time // zero: when the certificate itself does
	Added       time.Time // when it was added; is set by AddCertificate
	Seeded      bool      // it came with the appliance's first settings; is set by Seed
}

// Fingerprint is the SHA-256 of a certificate's SubjectPublicKeyInfo, in hexadecimal.
//
// Source: RFC 7469, section 2.4, which writes it in base64.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// parseFingerprint reads one as people have it, also in capitals and with colons.
func parseFingerprint(text string) (string, error) {
	text = strings.ToLower(strings.ReplaceAll(text, ":", ""))
	if b, err := hex.DecodeString(text); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%w: a fingerprint is the SHA-256 of the certificate's public key, 64 hexadecimal digits", ErrInput)
	}
	return text, nil
}

// Certificates lists all by name. It needs an admin.
func (g *Gate) Certificates(ctx context.Context, by Principal) ([]Certificate, error) {
	a, _, err := g.readAccess(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.permits(by, Admin, readAccess, g.now()); err != nil {
		return nil, err
	}
	var list []Certificate
	for fingerprint, c := range a.Certificates {
		list = append(list, Certificate{c.Name, fingerprint, c.Role, c.Expires, c.Added, c.Seeded})
	}
	slices.SortFunc(list, func(a, b Certificate) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return list, nil
}

// AddCertificate trusts a client's key.
func (g *Gate) AddCertificate(ctx context.Context, by Principal, c Certificate) error {
	return g.administer(ctx, by, Entry{Action: "certificate.add", Target: c.Name, Detail: c.Role.String()}, func(a *access) error {
		return a.trust(c, g.now(), false)
	})
}

func (a *access) trust(c Certificate, now time.Time, seeded bool) error {
	fingerprint, err := parseFingerprint(c.Fingerprint)
	switch {
	case err != nil:
		return err
	case !tokenName.MatchString(c.Name):
		return fmt.Errorf("%w: a certificate's name has 1 to 63 letters, digits, blanks and ._:@/-, and begins with a letter or digit", ErrInput)
	case a.Certificates[fingerprint] != nil:
		return fmt.Errorf("the certificate %w", ErrExists)
	case len(a.Certificates) >= most:
		return fmt.Errorf("%w: there are %d certificates, and no room for more", ErrInput, most)
	case !c.Role.known():
		return fmt.Errorf("%w: a certificate needs a role", ErrInput)
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return fmt.Errorf("%w: it would have run out already", ErrInput)
	}
	a.Begun, a.Code = true, ""
	a.Certificates[fingerprint] = &certificate{c.Name, c.Role, seeded, now.UTC(), c.Expires.UTC()}
	return nil
}

// RemoveCertificate trusts a key no more. Tokens that were made with it end.
func (g *Gate) RemoveCertificate(ctx context.Context, by Principal, fingerprint string) error {
	e := Entry{Action: "certificate.remove", Detail: fingerprint}
	return g.administer(ctx, by, e, func(a *access) error {
		fingerprint, err := parseFingerprint(fingerprint)
		if err != nil {
			return err
		}
		if a.Certificates[fingerprint] == nil {
			return fmt.Errorf("the certificate %w", ErrNotFound)
		}
		delete(a.Certificates, fingerprint)
		return nil
	})
}

// Seed trusts the keys of the appliance's first settings, all or none, if nobody has or
// had access; else it does nothing, so that a key that was removed is not trusted again
// with the next start.
func (g *Gate) Seed(ctx context.Context, certificates ...Certificate) (seeded bool, err error) {
	err = g.change(ctx, func(a *access) error {
		if a.Begun {
			return errBegun
		}
		for _, c := range certificates {
			if err := a.trust(c, g.now(), true); err != nil {
				return fmt.Errorf("the seeded certificate %q: %w", c.Name, err)
			}
		}
		return nil
	})
	if errors.Is(err, errBegun) || err == nil && len(certificates) == 0 {
		return false, nil
	}
	for _, c := range certificates {
		g.record(ctx, Entry{Principal: Principal{Name: "appliance"}, Action: "certificate.seed", Target: c.Name, Detail: c.Role.String()}, err)
	}
	return err == nil, err
}

// Certificate is whose a connection's client certificate is, or ErrUnauthenticated. The
// handshake has proved that the client has its key: tls.RequestClientCert is enough, and
// the certificate may be signed by itself. A certificate in a header proves nothing.
func (g *Gate) Certificate(ctx context.Context, from netip.Addr, state *tls.ConnectionState) (Principal, error) {
	if state == nil || !state.HandshakeComplete || len(state.PeerCertificates) == 0 {
		return Principal{}, ErrUnauthenticated
	}
	c := state.PeerCertificates[0]
	p, err := g.byCertificate(ctx, c)
	p.From = address(from)
	if errors.Is(err, ErrUnauthenticated) {
		g.refuse(ctx, Entry{Principal: Principal{From: p.From}, Action: "certificate.use", Target: Fingerprint(c)}, err)
	}
	return p, err
}

func (g *Gate) byCertificate(ctx context.Context, c *x509.Certificate) (Principal, error) {
	now := g.now()
	if now.Before(c.NotBefore) || now.After(c.NotAfter) || !forClients(c) {
		return Principal{}, ErrUnauthenticated
	}
	p, err := g.byHolder(ctx, holder{Certificate: Fingerprint(c), Most: Admin})
	if err != nil {
		return Principal{}, err
	}
	p.By, p.Until = ByCertificate, c.NotAfter
	return p, nil
}

// forClients tells whether a certificate is for clients, or for nothing in particular.
//
// Source: RFC 5280, section 4.2.1.12.
func forClients(c *x509.Certificate) bool {
	wanted := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageAny}
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.ContainsFunc(c.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return slices.Contains(wanted, u) })
}
