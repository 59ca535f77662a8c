package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// TLS is what this appliance shows to others of its fleet, and whom it lets in: clients
// to a hub, and a hub to its clients.
func (m *Member) TLS() *tls.Config { return m.config(m.verify) }

// Peers is the TLS of those that vote among themselves.
func (m *Member) Peers() *tls.Config {
	return m.config(func(s tls.ConnectionState) error {
		if err := m.verify(s); err != nil {
			return err
		}
		return s.PeerCertificates[0].VerifyHostname(servingName)
	})
}

// config asks for what is shown with each handshake, so that a renewed certificate is
// shown from then on. Nothing is resumed: who was removed meanwhile is refused.
func (m *Member) config(verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: servingName, SessionTicketsDisabled: true,
		RootCAs: m.roots, ClientCAs: m.roots, ClientAuth: tls.RequireAndVerifyClientCert,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.shown.Load(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.shown.Load(), nil },
		VerifyConnection:     verify,
	}
}

// verify is what is asked of a certificate that the fleet's authority has signed.
func (m *Member) verify(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 || len(s.VerifiedChains) == 0 {
		return fmt.Errorf("%w: it showed no certificate of the fleet's", ErrRefused)
	}
	if c := s.PeerCertificates[0]; m.removed.has(keyPrint(c.RawSubjectPublicKeyInfo)) {
		return fmt.Errorf("%w: %s was removed", ErrRefused, c.Subject.CommonName)
	}
	return nil
}

// alerts are what a hub tells one that it refuses, and what that means.
//
// Source: RFC 8446, section 6.2; the texts are of crypto/tls, alert.go.
var alerts = []struct{ text, means string }{
	{"tls: expired certificate", "its certificate has run out, since it was not in touch for so long: join again with a new token"},
	{"tls: unknown certificate authority", "its certificate is of another fleet: join this one with a token of its hub"},
	{"tls: certificate required", "it shows no certificate: join with a token of the hub"},
	{"tls: bad certificate", "it was removed from the fleet, or its role is another: join again with a new token"},
}

// Explain says what it means that a hub was not reached, in the words of the fleet.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	for _, a := range alerts {
		if strings.Contains(err.Error(), a.text) {
			return fmt.Errorf("%w: %s", ErrRefused, a.means)
		}
	}
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: who answers shows a certificate of another fleet: %w", ErrNotFleet, err)
	case errors.As(err, &name):
		return fmt.Errorf("%w: who answers is an appliance that does not vote", ErrNotFleet)
	case errors.As(err, &invalid):
		return fmt.Errorf("%w: %w; do the clocks agree?", ErrNotFleet, err)
	}
	return err
}

// Try tells whether a hub lets this appliance in: nil if it does, or is not there to be
// asked; ErrRefused or ErrNotFleet if it does not.
func (m *Member) Try(ctx context.Context, hub string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: m.TLS()}).DialContext(ctx, "tcp", hub)
	if err == nil {
		err = greeted(ctx, conn)
	}
	if err = Explain(err); errors.Is(err, ErrRefused) || errors.Is(err, ErrNotFleet) {
		return fmt.Errorf("%s: %w", hub, err)
	}
	return nil
}

// greeted waits for the first byte that a hub sends: in TLS 1.3 a client hears that it
// was refused only after its own handshake. Source: RFC 8446, section 2.
func greeted(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetReadDeadline(until); err != nil {
			return err
		}
	}
	_, err := conn.Read(make([]byte, 1))
	return err
}
