package vmware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"
)

const (
	reachIn  = 5 * time.Second
	nfcPort  = "902"
	together = 16 // hosts are tried at once
)

// reach tries the ports of hosts from which disks may be read.
func (s *Session) reach(ctx context.Context, hosts []mo.HostSystem) []Finding {
	found := make([][]Finding, len(hosts))
	var group errgroup.Group
	group.SetLimit(together)
	for i, host := range hosts {
		group.Go(func() error {
			found[i] = append(state(host), s.ports(ctx, host)...)
			return nil
		})
	}
	_ = group.Wait()
	var all []Finding
	for _, f := range found {
		all = append(all, f...)
	}
	return all
}

// state is whether a host can have anything done now.
func state(h mo.HostSystem) []Finding {
	product := "ESXi"
	if p := h.Summary.Config.Product; p != nil {
		product = p.FullName
	}
	f := Finding{Code: "vsphere/host", Level: OK, Text: fmt.Sprintf("the host %s is %s", h.Name, product)}
	switch {
	case h.Runtime.ConnectionState != types.HostSystemConnectionStateConnected:
		f.Level, f.Text = Blocker, fmt.Sprintf("the host %s is %s", h.Name, h.Runtime.ConnectionState)
		f.Try = "connect it in vCenter, or register its VMs on another host"
	case h.Runtime.InMaintenanceMode:
		f.Level, f.Text = Warning, fmt.Sprintf("the host %s is in maintenance, and powers no VM on", h.Name)
		f.Try = "take it out of maintenance, or move its VMs"
	}
	return []Finding{f}
}

// ports tries HTTPS, for exports, and NFC, for VMware's library.
func (s *Session) ports(ctx context.Context, h mo.HostSystem) []Finding {
	name := h.Name
	if !s.VCenter() {
		name = s.peer.name // an ESXi host need not know how it is called from here
	}
	greeted := s.greet(ctx, name)
	var dns *net.DNSError
	if errors.As(greeted, &dns) {
		return []Finding{unresolved(h)}
	}
	return []Finding{
		port(name, "443", "exports (nfc)", s.shake(ctx, name)),
		port(name, nfcPort, "VMware's library (vddk)", greeted),
	}
}

// unresolved is a host whose name DNS does not know here. Its server knows its addresses.
func unresolved(h mo.HostSystem) Finding {
	f := Finding{Code: "vsphere/host-name", Level: Warning,
		Text: fmt.Sprintf("the name of the host %s does not resolve here, so that no exports and no VMware library can be used for its VMs", h.Name),
		Try:  "add it to DNS, or say its address"}
	if h.Config == nil || h.Config.Network == nil {
		return f
	}
	var addresses []string
	for _, nic := range h.Config.Network.Vnic {
		if nic.Spec.Ip != nil && nic.Spec.Ip.IpAddress != "" {
			addresses = append(addresses, nic.Spec.Ip.IpAddress)
		}
	}
	if len(addresses) > 0 {
		f.Try += fmt.Sprintf(": the server knows %s", strings.Join(addresses, ", "))
	}
	return f
}

func port(host, port, use string, err error) Finding {
	f := Finding{Code: "vsphere/host-" + port, Level: OK, Text: fmt.Sprintf("TCP port %s of %s is reached, for %s", port, host, use)}
	if err != nil {
		f.Level = Warning
		f.Text = fmt.Sprintf("TCP port %s of %s is not reached, so that %s cannot be used: %v", port, host, use, err)
		f.Try = "allow it in the firewalls between here and the host"
	}
	return f
}

// shake begins a TLS connection, through a proxy if there is one. Whose certificate it
// is does not matter yet.
func (s *Session) shake(ctx context.Context, host string) error {
	p, err := s.network.peer(bracketed(host), "")
	if err != nil {
		return err
	}
	p.look = true
	ctx, cancel := context.WithTimeoutCause(ctx, reachIn, errSilent)
	defer cancel()
	transport := s.network.transport(p)
	defer transport.CloseIdleConnections()
	if err := look(ctx, transport, p); !errors.Is(err, errLooked) {
		return p.unreachable(ctx, err)
	}
	return nil
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// greet waits for the greeting of the service that VMware's library speaks to. No
// proxy leads there.
//
// Source: an ESXi host, "220 VMware Authentication Daemon Version 1.10: …".
func (s *Session) greet(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, reachIn, errSilent)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", s.network.address(host, nfcPort))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(reachIn)); err != nil {
		return err
	}
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return fmt.Errorf("it is open, but gives no greeting: %w", err)
	}
	if string(greeting) != "220 " {
		return fmt.Errorf("what answers there is not VMware's: %q", greeting)
	}
	return nil
}
