package vmware

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	govmomi "github.com/vmware/govmomi/vim25/xml"
)

// unreachable says for people why a peer was not reached, and what to do. It is
// ErrConnect, unless the caller had enough.
func (p *peer) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSilent) {
		return context.Cause(ctx)
	}
	text := p.why(err)
	if text == "" {
		return fmt.Errorf("%w: %s: %w", ErrConnect, p.host(), err)
	}
	return &sentence{fmt.Sprintf("%v: %s: %s", ErrConnect, p.host(), text), []error{ErrConnect, err}}
}

// sentence is an error that was put into words for people.
type sentence struct {
	text string
	of   []error
}

func (s *sentence) Error() string   { return s.text }
func (s *sentence) Unwrap() []error { return s.of }

// why finds the words; empty if the error's own must do.
func (p *peer) why(err error) string {
	var dns *net.DNSError
	var refusal *proxyRefusal
	var doubt *untrusted
	var code status
	switch {
	case errors.As(err, &doubt):
		return doubt.Error()
	case errors.As(err, &refusal):
		return refusal.Error() + ": allow it there, or reach the server without a proxy (NO_PROXY)"
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s does not resolve here: correct it, give the server's IP address, or say the address that the name has", dns.Name)
	case errors.As(err, &code):
		return code.why()
	}
	return p.whySilent(err)
}

func (p *peer) whySilent(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s%s: check the address and the port, and that the server runs", p.address, whose(err))
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to " + p.address + " from here: check the network, the route, and the gateway"
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "it did not answer in time: check the address, and whether a firewall drops what is sent to TCP port " + p.port
	}
	return whyStrange(err)
}

// whose tells a proxy from the server.
func whose(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		return ", or at the proxy"
	}
	return ""
}

// whyStrange is for what answers, but not as a VMware server does.
func whyStrange(err error) string {
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var plain *xml.SyntaxError
	var syntax *govmomi.SyntaxError
	var other govmomi.UnmarshalError
	const not = "what answers there is not a VMware server: check the address and the port (443)"
	switch {
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS at that port: check the port; the API is at 443"
	case strings.Contains(err.Error(), "unsupported protocol version"), strings.Contains(err.Error(), "protocol version not supported"):
		return "it speaks only TLS older than 1.2, which is not safe: update it, or enable TLS 1.2 there (vSphere 6.5 and later have it)"
	case errors.As(err, &alert):
		return "it refuses the TLS connection: " + alert.Error()
	case errors.As(err, &plain), errors.As(err, &syntax), errors.As(err, &other), errors.Is(err, errStrange), foreign(err):
		return not
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "it closes the connection without an answer: check that port 443 of a VMware server is there, and what stands between (a proxy, a firewall)"
	}
	return ""
}

// errStrange is an answer that lacks what every VMware server's has.
var errStrange = errors.New("not the answer of a VMware server")

// why is for an answer that no API gives.
func (s status) why() string {
	switch s {
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return "its service is down, or still starts (" + s.Error() + "): wait some minutes; on vCenter, service-control --status vpxd tells"
	case http.StatusForbidden, http.StatusUnauthorized:
		return "it refuses the request before any log-in (" + s.Error() + "): something stands between, or the API is disabled there"
	}
	return "what answers there is not a VMware server (" + s.Error() + "): check the address and the port (443)"
}
