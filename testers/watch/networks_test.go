package watch

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers"
	"hyper2kvm/testers/lan"
)

// A network knows what lies beside it, so that nobody is taken for a stranger whom the
// guest answers through another card.
func TestNetworksKnowOfOneAnother(t *testing.T) {
	prefix := netip.MustParsePrefix
	e := testers.Expect{NICs: []lan.Expect{
		{MAC: "b", Static: []netip.Prefix{prefix("198.51.100.20/24")}},
		{MAC: "a", Static: []netip.Prefix{prefix("203.0.113.20/24")}},
	}}
	want := []lan.Expect{
		{MAC: "a", Static: []netip.Prefix{prefix("203.0.113.20/24")}, Beside: []netip.Prefix{prefix("198.51.100.20/24"), prefix("198.18.1.0/24"), prefix("198.18.2.0/24")}},
		{MAC: "b", Static: []netip.Prefix{prefix("198.51.100.20/24")}, Network: prefix("198.18.1.0/24"), Beside: []netip.Prefix{prefix("203.0.113.20/24"), prefix("192.0.2.0/24"), prefix("198.18.2.0/24")}},
		{MAC: "c", Network: prefix("198.18.2.0/24"), Beside: []netip.Prefix{prefix("203.0.113.20/24"), prefix("192.0.2.0/24"), prefix("198.51.100.20/24"), prefix("198.18.1.0/24")}},
	}
	got := expected(e, []machine.Interface{{MAC: "a"}, {MAC: "b"}, {MAC: "c"}})
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
