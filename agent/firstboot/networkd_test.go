package firstboot

import (
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// underNetworkd runs systemd-networkd over a folder's files, with a card and a router at
// its other end, in a network and mounts of their own, and prints what the kernel has
// then. The sysfs is one more, of that network: this machine's is not touched.
const underNetworkd = `set -e
mount -t tmpfs none /run
mount -t tmpfs none /etc/systemd/network
mount -t sysfs -o ro none /sys
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
cp "$1"/etc/systemd/network/*.network /etc/systemd/network
printf '[NetDev]\nName=eth0\nKind=veth\n[Peer]\nName=router\n' >/etc/systemd/network/10-card.netdev
printf '[Match]\nName=router\n[Network]\nLinkLocalAddressing=ipv6\n' >/etc/systemd/network/10-router.network
SYSTEMD_LOG_LEVEL=info SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-networkd >/run/said 2>&1 &
for i in $(seq 200); do
	! grep -qE "$2" /run/said /proc/net/route /proc/net/if_inet6 || break
	sleep 0.1
done
cat /run/said /proc/net/route /proc/net/if_inet6 /proc/net/ipv6_route /proc/net/fib_trie
kill %1
wait %1 || [ $? = 143 ]`

// TestNetworkdTakesTheFile: that it matches a card by its permanent MAC address, and all
// that are real, cannot be seen here, where a network of its own has none such; a wrong
// word in those lines is.
func TestNetworkdTakesTheFile(t *testing.T) {
	guesttest.Need(t, "unshare", "bash", "mount")
	if !there("/lib/systemd/systemd-networkd") {
		guesttest.Missing(t, "systemd-networkd is not installed")
	}
	for name, c := range map[string]struct {
		values map[string]string
		kind   string // of the card's MAC address
		until  string
		want   []string
	}{
		"static": {map[string]string{"address": "192.0.2.10/24 2001:db8::10/64", "gateway": "192.0.2.1 fe80::1", "dns": "192.0.2.53", "ntp": "192.0.2.7"}, "1", "20010db80000.* eth0",
			[]string{"eth0\t00000000\t010200C0\t", "20010db8000000000000000000000010 ", "fe800000000000000000000000000001 00000400", "|-- 192.0.2.10\n"}},
		"mac":  {map[string]string{"address": "192.0.2.10/24"}, "0", "Enumeration completed", []string{"router: Configuring with"}},
		"all":  {map[string]string{"dns": "192.0.2.53"}, "0", "Enumeration completed", []string{"router: Configuring with"}},
		"dhcp": {map[string]string{"nic": "eth0", "dns": "192.0.2.53", "ntp": "192.0.2.7"}, "1", "eth0: Configuring with", []string{"eth0: Configuring with /etc/systemd/network/50-hyper2kvm.network."}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.card("eth0", "00:50:56:01:02:03", c.kind)
			m.seed(ISO, c.values)
			m.boot(nil)
			said := networkd(t, m.root, c.until)
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("it lacks %q:\n%s", want, said)
				}
			}
			if strings.Contains(said, "50-hyper2kvm.network:") {
				t.Errorf("networkd does not take all of it:\n%s", said)
			}
		})
	}
}

func networkd(t *testing.T, root, until string) string {
	t.Helper()
	var said strings.Builder
	_, err := proc.Command{Name: "unshare", Args: []string{"--net", "--mount", "--fork", "--kill-child", "bash", "-c", underNetworkd, "networkd", root, until}, Both: &said}.Run(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	return said.String()
}

// networkd tells of a word that it does not know, so that the test above would see one.
func TestNetworkdTellsOfAWrongWord(t *testing.T) {
	guesttest.Need(t, "unshare", "bash", "mount")
	m := newMachine(t)
	m.put(networkPath, "[Match]\nTyp=ether\n")
	if said := networkd(t, m.root, "Enumeration completed"); !strings.Contains(said, "/etc/systemd/network/"+filepath.Base(networkPath)+":2: Unknown key") {
		t.Error(said)
	}
}
