package vmware

import (
	"context"
	"net"
	"testing"
)

// closedPort is an address where nothing listens.
func closedPort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// away dials a port where nothing listens a number of times, and then the right one.
func away(t *testing.T, address string, tries int) func(context.Context, string, string) (net.Conn, error) {
	closed, still := closedPort(t), times(tries)
	var dialer net.Dialer
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		if still() {
			return dialer.DialContext(ctx, network, closed)
		}
		return dialer.DialContext(ctx, network, address)
	}
}
