package vmware

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Certificate is what a server shows to prove who it is.
type Certificate struct {
	SHA256  string    `json:"sha256"` // thumbprints: upper case, with colons
	SHA1    string    `json:"sha1"`
	Subject string    `json:"subject"`
	Issuer  string    `json:"issuer"`
	Names   []string  `json:"names,omitempty"` // and addresses that it is for
	Until   time.Time `json:"until"`
}

// Thumbprint fetches the certificate of a Config's server and trusts it in nothing:
// people compare it with what they know. Nothing is sent to the server but the
// beginning of a TLS connection.
func Thumbprint(ctx context.Context, c Config) (Certificate, error) {
	n, err := c.network()
	if err != nil {
		return Certificate{}, err
	}
	p, err := n.peer(c.Server, "")
	if err != nil {
		return Certificate{}, err
	}
	p.look = true
	ctx, cancel := context.WithTimeoutCause(ctx, connectIn, errSilent)
	defer cancel()
	transport := n.transport(p)
	defer transport.CloseIdleConnections()
	err = look(ctx, transport, p)
	if seen := p.seen.Load(); seen != nil {
		return certificate(seen), nil
	}
	return Certificate{}, p.unreachable(ctx, err)
}

// look begins a connection, which fails when the certificate was seen.
func look(ctx context.Context, t *http.Transport, p *peer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.address, nil)
	if err != nil {
		return err
	}
	response, err := t.RoundTrip(request)
	if err == nil {
		response.Body.Close()
	}
	return err
}

func certificate(c *x509.Certificate) Certificate {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return Certificate{SHA256: sha256Of(c), SHA1: sha1Of(c), Subject: c.Subject.String(), Issuer: c.Issuer.String(),
		Names: names, Until: c.NotAfter}
}

func sha256Of(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return colons(sum[:])
}

// sha1Of is what VMware's own tools call a thumbprint, until vSphere 8.
func sha1Of(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return colons(sum[:])
}

func colons(sum []byte) string {
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum)), " ", ":")
}

// thumbprint is a thumbprint as sha256Of and sha1Of spell it.
func thumbprint(text string) (string, error) {
	sum, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "", "-", "").Replace(strings.TrimSpace(text)))
	if err != nil || len(sum) != 0 && len(sum) != sha1.Size && len(sum) != sha256.Size {
		return "", fmt.Errorf("%w: the thumbprint %q is neither SHA-256 (64 hexadecimal digits) nor SHA-1 (40)", ErrConnect, text)
	}
	return colons(sum), nil
}

// peer is a host, and how it proves to be that host.
type peer struct {
	name, port string // as it was given, and as its certificate has it
	address    string // host:port that is dialled
	pin        string // thumbprint that its certificate must have; empty: roots say
	roots      *x509.CertPool
	look       bool // at the certificate, and no more
	seen       atomic.Pointer[x509.Certificate]
}

var errLooked = errors.New("the certificate was looked at")

// tls is how connections to a peer are made. Who it is, is checked here: also what
// goes through a proxy comes along.
func (p *peer) tls() *tls.Config {
	return &tls.Config{ServerName: p.name, InsecureSkipVerify: true, VerifyConnection: p.verify}
}

func (p *peer) verify(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]
	p.seen.Store(leaf)
	switch {
	case p.look:
		return errLooked
	case p.pin == sha256Of(leaf), p.pin == sha1Of(leaf):
		return nil
	case p.pin != "":
		return &untrusted{peer: p, leaf: leaf}
	}
	options := x509.VerifyOptions{Roots: p.roots, DNSName: p.name, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		return &untrusted{peer: p, leaf: leaf, err: err}
	}
	return nil
}

// untrusted is a host that may be another than the one that was meant.
type untrusted struct {
	peer *peer
	leaf *x509.Certificate
	err  error // nil: another certificate is pinned
}

func (u *untrusted) Unwrap() error { return u.err }

func (u *untrusted) Error() string {
	found := fmt.Sprintf("its certificate has the thumbprint SHA-256 %s, SHA-1 %s", sha256Of(u.leaf), sha1Of(u.leaf))
	if u.err == nil {
		return fmt.Sprintf("it is not the server that was pinned: %s, not %s; if the certificate was renewed, compare it with %s and give the new one; if not, someone may stand between",
			found, u.peer.pin, console)
	}
	return fmt.Sprintf("%s: %s; compare it with %s and give it, or give the file of the authority's certificates", u.doubt(), found, console)
}

// console is where a server's own thumbprint is read.
//
// Source: VMware docs, "View ESXi support information in the direct console"; vSphere
// Client, Administration, Certificate Management.
const console = "what the server itself shows (ESXi: View Support Information on its console; vCenter: Certificate Management)"

// doubt is what is wrong with the certificate.
func (u *untrusted) doubt() string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	switch {
	case errors.As(u.err, &name):
		return fmt.Sprintf("its certificate is for %s, not for %s: use such a name, or", strings.Join(certificate(u.leaf).Names, ", "), u.peer.name)
	case errors.As(u.err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("its certificate holds from %s to %s, and this machine's clock says %s",
			u.leaf.NotBefore.UTC().Format(time.DateTime), u.leaf.NotAfter.UTC().Format(time.DateTime), time.Now().UTC().Format(time.DateTime))
	}
	return "no authority that is known here has signed its certificate"
}

// host is the peer as people read it.
func (p *peer) host() string {
	if p.port == "443" {
		return p.name
	}
	return net.JoinHostPort(p.name, p.port)
}
