package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Shape is how appliances share their migrations. Its zero value is an appliance by
// itself, whose engine nobody else can reach.
type Shape struct {
	// URL is of an engine elsewhere that this appliance works for: a hub's, or that of
	// a NATS with JetStream. There may be several, with commas between. Nothing is kept
	// here then.
	URL string
	// External is whether the URL is of a NATS that is nobody's appliance.
	External bool
	// Credentials is the file that a NATS knows this appliance by; "" if it needs none.
	Credentials string
	// Listen is where workers reach this one, which then is a hub: host and port.
	Listen string
	// Cluster makes this one of several that keep everything three times.
	Cluster Cluster
	// TLS is what this appliance shows to others and whom it trusts. Appliances meet
	// over nothing else; a NATS may be reached without.
	TLS *tls.Config `json:"-"`
}

// Cluster is an appliance's place among others that all vote.
type Cluster struct {
	Name   string
	Listen string      // where the others reach it: host and port
	Peers  []string    // where it reaches the others
	TLS    *tls.Config `json:"-"`
	// First is whether this is the one that was there first: it carries what it has kept
	// over to the others, who wait for that.
	First bool
}

// ErrShape is a shape that would not keep what it is given.
var ErrShape = errors.New("appliances cannot work together so")

func (s Shape) check() error {
	voting := len(s.Cluster.Peers) + 1
	switch {
	case s.URL != "" && (s.Listen != "" || s.Cluster.Name != ""):
		return fmt.Errorf("%w: one that works for an engine elsewhere is no hub and has no vote", ErrShape)
	case s.Cluster.Name != "" && voting != 3 && voting != 5:
		return fmt.Errorf("%w: %d appliances cannot vote: more than half of them must be there for anything to be kept, so an even number survives no more failures than one less, and with two nothing goes on when either fails; have 3 or 5, or one hub with workers", ErrShape, voting)
	case s.TLS == nil && (s.Listen != "" || s.URL != "" && !s.External), s.Cluster.TLS == nil && s.Cluster.Name != "":
		return fmt.Errorf("%w: they meet over TLS alone, where each shows a certificate", ErrShape)
	}
	return nil
}

// mostReplicas is how many times everything is kept where there is more than one that
// keeps it.
const mostReplicas = 3

// hostPort splits an address.
func hostPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%w: %q is no address: want a host and a port, such as 192.0.2.7:4222", ErrShape, address)
	}
	return host, port, nil
}
