package vmware

import (
	"context"
	"net"
	"testing"
)

// away dials a port where nothing listens a number of times, and then the right one.
func away(t *testing.T, address string, tries int) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	still := times(tries)
	var dialer net.Dialer
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		if still() {
			return dialer.DialContext(ctx, network, closed.Addr().String())
		}
		return dialer.DialContext(ctx, network, address)
	}
}
