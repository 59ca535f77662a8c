package vmware

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// network is what a Config says about reaching hosts.
type network struct {
	resolve map[string]string
	proxy   func(*url.URL) (*url.URL, error)
	roots   *x509.CertPool // nil: the system's
}

// network checks what a Config says about reaching hosts.
func (c Config) network() (network, error) {
	n := network{resolve: map[string]string{}}
	for name, address := range c.Resolve {
		n.resolve[canonical(name)] = address
	}
	var err error
	if n.proxy, err = proxy(c.Proxy); err != nil {
		return n, err
	}
	if c.CA != "" {
		n.roots, err = authorities(c.CA)
	}
	return n, err
}

// proxy tells which proxy is on the way to a URL.
func proxy(text string) (func(*url.URL) (*url.URL, error), error) {
	if text == "" {
		return httpproxy.FromEnvironment().ProxyFunc(), nil
	}
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
		// The text may hold a password.
		return nil, fmt.Errorf("%w: the proxy is not a URL such as http://proxy.example.com:3128", ErrConnect)
	}
	return func(*url.URL) (*url.URL, error) { return u, nil }, nil
}

func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: the file of authorities: %w", ErrConnect, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s has no certificate: it wants PEM, with BEGIN CERTIFICATE lines", ErrConnect, file)
	}
	return pool, nil
}

// canonical is one spelling of a host name.
func canonical(name string) string {
	return strings.TrimSuffix(strings.ToLower(name), ".")
}

// address is where a host is dialled, with its port.
func (n network) address(host, port string) string {
	for _, name := range []string{net.JoinHostPort(canonical(host), port), canonical(host)} {
		if to, ok := n.resolve[name]; ok {
			host, port = split(to, port)
			break
		}
	}
	return net.JoinHostPort(host, port)
}

// split parts a host from its port, which is another if it has none. The host has
// no brackets then.
func split(text, port string) (string, string) {
	if h, p, err := net.SplitHostPort(text); err == nil {
		return h, p
	}
	return strings.Trim(text, "[]"), port
}

// peer is the host at an address as people write it, such as a host name, with or
// without a port, an IP address, or an https URL.
func (n network) peer(text, pin string) (*peer, error) {
	host, port, err := hostPort(text)
	if err != nil {
		return nil, err
	}
	p := &peer{name: host, port: port, address: n.address(host, port), roots: n.roots}
	p.pin, err = thumbprint(pin)
	return p, err
}

var errAddress = errors.New("want a host name or an address, or an https URL without a user")

func hostPort(text string) (host, port string, err error) {
	if strings.Contains(text, "@") { // what is before it may be a password
		return "", "", fmt.Errorf("%w: the server's address: %w", ErrConnect, errAddress)
	}
	whole := text
	if a, err := netip.ParseAddr(text); err == nil && a.Is6() {
		whole = "[" + text + "]"
	}
	if !strings.Contains(whole, "://") {
		whole = "https://" + whole
	}
	u, err := url.Parse(whole)
	if err == nil && (u.Scheme != "https" || u.Hostname() == "") {
		err = errAddress
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: the server's address %q: %w", ErrConnect, text, errAddress)
	}
	host, port = u.Hostname(), u.Port()
	if port == "" {
		port = "443"
	}
	return host, port, nil
}
