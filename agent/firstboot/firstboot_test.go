package firstboot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const byDefault = written + "[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\n"

func TestWhatASeedSaysIsDone(t *testing.T) {
	certificate, key := pair(t, "mover1")
	admin, _ := pair(t, "marta")
	values := map[string]string{"hostname": "mover1.example.org", "address": "192.0.2.10/24, 2001:db8::10/64", "gateway": "192.0.2.1 fe80::1", "dns": "192.0.2.53", "search": "example.org",
		"ntp": "ntp.example.org", "nic": "00-50-56-01-02-03", "keymap": "de-latin1", "trust": admin, "certificate": certificate, "key": key, "authorities": certificate + admin, "join-token": token(t), "ssh-key": sshKey, "settings": "oidc: {issuer: 'https://id.example.org', clientID: h2k, redirect: 'https://mover1.example.org/login/callback', roles: {admins: admin}, ca: /" + caPath + "}\n" + strings.Repeat("# as long as several clusters\n", 500)}
	want := map[string]string{
		networkPath: written + "[Match]\nPermanentMACAddress=00:50:56:01:02:03\n\n[Network]\nDHCP=no\nAddress=192.0.2.10/24\nAddress=2001:db8::10/64\nGateway=192.0.2.1\nGateway=fe80::1\nIPv6AcceptRA=no\n" +
			"\n[DHCPv4]\nClientIdentifier=mac\nUseDNS=no\nUseNTP=no\n\n[DHCPv6]\nUseDNS=no\nUseNTP=no\n\n[IPv6AcceptRA]\nUseDNS=no\n",
		hostnamePath:           "mover1.example.org\n",
		resolvedPath:           written + "[Resolve]\nDNS=192.0.2.53\nDomains=example.org\n",
		timesyncPath:           written + "[Time]\nNTP=ntp.example.org\n",
		keymapPath:             written + "KEYMAP=de-latin1\n",
		sshPath + " private":   sshKey + "\n",
		pairPath + " private":  certificate + key,
		trustPath + " private": admin,
		caPath + " private":    certificate + admin,
		tokenPath + " private": values["join-token"] + "\n",
		ownPath:                written + "tls:\n  certificate: /etc/hyper2kvm/tls/seeded.pem\n  key: /etc/hyper2kvm/tls/seeded.pem\n  firstAdmins: /etc/hyper2kvm/tls/admins.pem\nengine:\n  shape: worker\n  worker: {hub: 'hub.example.org:4222', secret: hyper2kvm-join}\n",
		agentPath:              written + values["settings"],
	}
	for _, format := range []string{ISO, FAT} {
		t.Run(format, func(t *testing.T) {
			m := newMachine(t)
			m.seed(format, values)
			r := m.boot(nil)
			if len(r.Problems) > 0 || r.Network != "192.0.2.10/24 and 2001:db8::10/64 on eth0 (00:50:56:01:02:03)" {
				t.Errorf("it tells %q, %q", r.Network, r.Problems)
			}
			if diff := cmp.Diff(want, m.etc()); diff != "" {
				t.Error(diff)
			}
			if again := m.boot(nil); len(again.Changed) > 0 {
				t.Errorf("a second boot changes %q", again.Changed)
			}
			text, err := os.ReadFile(filepath.Join(m.root, ReportPath))
			if err != nil || strings.Contains(string(text), "h2kjoin_") || strings.Contains(string(text), "PRIVATE") {
				t.Errorf("the report shows a secret: %s, %v", text, err)
			}
		})
	}
}

func TestWhatNobodySaysAnyMoreIsRemoved(t *testing.T) {
	m := newMachine(t)
	certificate, key := pair(t, "mover1")
	m.seed(ISO, map[string]string{"hostname": "a", "address": "192.0.2.10/24", "dns": "192.0.2.53", "ntp": "192.0.2.7", "keymap": "fr", "ssh-key": sshKey, "certificate": certificate, "key": key, "trust": certificate, "authorities": certificate, "join-token": token(t), "settings": "log: {level: debug}"})
	m.put("etc/hyper2kvm/config.d/20-site.yaml", "capacity: 2\n")
	m.put("etc/ssh/"+partPrefix+"left", "by another")
	m.boot(nil)
	m.put("etc/ssh/authorized_keys.d/"+partPrefix+"left", "of a boot that was cut off")
	m.seed(ISO, map[string]string{"ssh-key": sshKey})
	m.boot(nil)
	want := map[string]string{networkPath: byDefault, hostnamePath: "hyper2kvm\n", sshPath + " private": sshKey + "\n",
		"etc/hyper2kvm/config.d/20-site.yaml": "capacity: 2\n", "etc/ssh/" + partPrefix + "left": "by another"}
	if diff := cmp.Diff(want, m.etc()); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutASourceThereIsDHCP(t *testing.T) {
	m := newMachine(t)
	m.card("wlan0", "00:50:56:01:02:04", "0")
	m.put("sys/class/net/wlan0/phy80211/name", "phy0")
	m.put("proc/cmdline", "hyper2kvm.address=192.0.2.10/24")
	if r := m.boot(nil); len(r.Problems) > 0 { // what is not Ethernet does not count
		t.Errorf("%q", r.Problems)
	}
	m.put("proc/cmdline", "quiet")
	r := m.boot(nil)
	if diff := cmp.Diff(map[string]string{networkPath: byDefault, hostnamePath: "hyper2kvm\n"}, m.etc()); diff != "" || len(r.Problems)+len(r.Sources) > 0 || r.Network != "DHCP on all network cards" {
		t.Errorf("%s\n%+v", diff, r)
	}
}

func TestLaterSourcesLieOverEarlierOnes(t *testing.T) {
	m := newMachine(t)
	for i, add := range []func(){
		func() {},
		func() { m.seed(ISO, map[string]string{"hostname": "n2"}) },
		func() { m.put("proc/cmdline", "quiet hyper2kvm.hostname=n3 hyper2kvm.toram root=x\n") },
		func() {
			if err := Keep(m.root, map[string]string{"hostname": "n4", "ntp": ""}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		add()
		r := m.boot(variables(map[string]string{ovfEnvironment: vsphere(map[string]string{"hostname": "n0", "ntp": "192.0.2.7"}), "guestinfo.hyper2kvm.hostname": "n1"}))
		if got, want := m.etc()[hostnamePath], fmt.Sprintf("n%d\n", i+1); got != want || m.etc()[timesyncPath] == "" || len(r.Problems) > 0 || len(r.Sources) != i+2 {
			t.Errorf("it is called %q, want %q: %+v", got, want, r)
		}
		if last := r.Notes[len(r.Notes)-1]; !strings.HasPrefix(last, "hostname: "+r.Applied[0].Source+" counts, and lies over ") {
			t.Errorf("it tells %q of %+v", last, r.Applied)
		}
	}
	if diff := cmp.Diff(map[string]string{"hostname": "n4"}, Kept(m.root)); diff != "" {
		t.Error(diff)
	}
	if err := Keep(m.root, map[string]string{"hostname": ""}); err != nil || len(Kept(m.root)) > 0 {
		t.Errorf("nothing is kept as %v, %v", Kept(m.root), err)
	}
	if err := Keep(m.root, map[string]string{"address": "192.0.2.0/24"}); !errors.Is(err, ErrValue) || !strings.Contains(err.Error(), ": address: 192.0.2.0/24 is the network's first") {
		t.Errorf("Keep = %v", err)
	}
}

func TestAnAddressHasItsOwnGateway(t *testing.T) {
	m := newMachine(t)
	m.seed(ISO, map[string]string{"address": "192.0.2.10/24", "gateway": "192.0.2.1"})
	m.put("proc/cmdline", `hyper2kvm.address=dhcp hyper2kvm.settings="{log: {level: warn}}"`)
	r := m.boot(nil)
	if m.network() != byDefault || len(r.Problems) > 0 || !strings.Contains(m.etc()[agentPath], "level: warn") {
		t.Errorf("%s, %+v", m.network(), r)
	}
}

// TestWordsOfTheInitramfsAreNoSettings takes them from its source, which is another module's.
func TestWordsOfTheInitramfsAreNoSettings(t *testing.T) {
	files, err := filepath.Glob("../../initramfs/boot/*.go")
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`"hyper2kvm\.([a-z-]+)"`).FindAllStringSubmatch(string(text), -1) {
			words[found[1]] = true
		}
	}
	if len(words) < 6 {
		t.Fatalf("the initramfs reads %v alone", words)
	}
	m := newMachine(t)
	for word := range words {
		m.put("proc/cmdline", "quiet hyper2kvm."+word+"=1 root=x\n")
		if r := m.boot(nil); len(r.Problems) != 0 {
			t.Errorf("%s: %q", word, r.Problems)
		}
	}
}

func TestTwoSeedVolumesAreRefused(t *testing.T) {
	m := newMachine(t)
	m.seed(ISO, map[string]string{"hostname": "a"})
	m.disk("sdb", "sdb1", image(t, FAT, map[string]string{"hostname": "b"}))
	m.disk("sdc", "", make([]byte, 1<<20))
	m.disk("loop0", "", image(t, ISO, map[string]string{"hostname": "c"}))
	r := m.boot(nil)
	one(t, r.Problems, "the seed volume: there are 2, /dev/sdb1 and /dev/sr0, and none was read: leave one")
	if got := m.etc()[hostnamePath]; got != "hyper2kvm\n" {
		t.Errorf("it is called %q", got)
	}
}

// A network that is wrong becomes DHCP's, and what is right is done.
func TestAWrongNetworkIsDHCPs(t *testing.T) {
	for line, want := range map[string]string{
		"address=192.0.2.10":     "192.0.2.10 lacks its prefix length: write 192.0.2.10/24",
		"address=192.0.2.10/33":  "is no address: write one with its prefix length",
		"address=192.0.2.255/24": "is the network's first or last address",
		"address=127.0.0.1/8":    "is no address that a host can have",
		"address=10.0.0.1/0":     "says that every address is on this network",
		"address=192.0.2.10/24 hyper2kvm.gateway=198.51.100.1":        "gateway: 198.51.100.1 is in the network of no address",
		"address=192.0.2.10/24 hyper2kvm.gateway=192.0.2.10":          "is the appliance's own address",
		"address=192.0.2.10/24 hyper2kvm.gateway=192.0.2.1,192.0.2.2": "has two of one family",
		"address=192.0.2.10/24 hyper2kvm.gateway=router":              "gateway: \"router\" is no host's address",
		"nic=00:50:56:ff:ff:ff":                                       "nic: there is no network card 00:50:56:ff:ff:ff: write one of 00:50:56:01:02:03 (eth0), 00:50:56:01:02:04 (eth1)",
		"nic=../../etc":                                               "is no network card",
		"address=192.0.2.10/24":                                       "there are 2 network cards, and an address is that of one",
	} {
		m := newMachine(t)
		m.card("eth1", "00:50:56:01:02:04", "0")
		m.put("proc/cmdline", "hyper2kvm.hostname=right hyper2kvm."+line)
		r := m.boot(nil)
		if len(r.Problems) != 2 || !strings.HasPrefix(r.Problems[0], fromKernel+": ") || !strings.Contains(r.Problems[0], want) || r.Problems[1] != dhcpInstead {
			t.Errorf("%s: the problems are %q, want %q", line, r.Problems, want)
		}
		if m.network() != byDefault || m.etc()[hostnamePath] != "right\n" {
			t.Errorf("%s: %s", line, m.network())
		}
	}
}

func TestTheCardIsFoundByNameAndByMAC(t *testing.T) {
	for nic, want := range map[string]string{"eth1": "PermanentMACAddress=00:50:56:01:02:04\n", "00:50:56:01:02:04": "PermanentMACAddress=00:50:56:01:02:04\n", "usb0": "Name=usb0\n"} {
		m := newMachine(t)
		m.card("eth1", "00:50:56:01:02:04", "0")
		m.card("usb0", "02:50:56:01:02:05", "1")
		m.put("proc/cmdline", "hyper2kvm.nic="+nic)
		r := m.boot(nil)
		if len(r.Problems) > 0 || !strings.Contains(m.network(), "[Match]\n"+want+"\n[Network]\nDHCP=yes\n") {
			t.Errorf("%s: %s, %q", nic, m.network(), r.Problems)
		}
	}
}

// What else is wrong is told, and left out alone.
func TestWhatIsWrongIsTold(t *testing.T) {
	certificate, key := pair(t, "a")
	_, other := pair(t, "b")
	for want, yaml := range map[string]string{
		"hyper2kvm.yaml:1: hostnaem: there is no such key: write hostname":          "hostnaem: x",
		"hyper2kvm.yaml:1: zzz: there is no such key; there are hostname, address":  "zzz: x",
		"hostname: \"a b\" is no host name":                                         "hostname: a b",
		"hyper2kvm.yaml:2: the field dns is there twice":                            "dns: 192.0.2.1\ndns: 192.0.2.2",
		"hyper2kvm.yaml:2: is not YAML":                                             "hostname: [",
		"dns: \"x\" is no host's address: write one such as":                        "dns: [192.0.2.1, x]",
		"ntp: \"192.0.2.300.\" is no time server":                                   "ntp: 192.0.2.300.",
		"search: \"-\" is no domain":                                                "search: '-'",
		"hyper2kvm.yaml:1: hostname: has fields: write its value":                   "hostname: {file: x}",
		"trust: there is no file none beside hyper2kvm.yaml":                        "trust: {file: none}",
		"trust: names no file beside hyper2kvm.yaml":                                "trust: {file: ../etc/passwd}",
		"trust: has 0 certificates":                                                 "trust: hello",
		"trust: holds a private key: write certificates alone":                      "trust: " + line(key),
		"certificate: there is a certificate without its key":                       "certificate: " + line(certificate),
		"certificate: there is a key without its certificate":                       "key: " + line(key),
		"certificate: the key is not the certificate's":                             "certificate: " + line(certificate) + "\nkey: " + line(other),
		"key: is encrypted: take its passphrase away":                               "key: '-----BEGIN ENCRYPTED PRIVATE KEY----- AA== -----END ENCRYPTED PRIVATE KEY-----'",
		"ssh-key: line 1 is no public key":                                          "ssh-key: ssh-ed25519 hello",
		"join-token: the token does not let in: it is damaged":                      "join-token: h2kjoin_x",
		"hub: there is no token to join it with":                                    "hub: hub.example.org",
		"settings: 60-seed.yaml:2: capcity: there is no such field: write capacity": "settings: {capcity: 3}",
		"settings: line 2 is not YAML":                                              "settings: '['",
		"keymap: \"german\" is no keyboard layout: write one such as de, es, fr":    "keymap: german",
		"keymap: \"CH\" is no keyboard layout: write one such as fr_CH, fr_CH-lat":  "keymap: CH",
		"keymap: \"../us\" is no keyboard layout":                                   "keymap: ../us",
		"gateway: counts only with an address":                                      "gateway: 192.0.2.1",
		"has 17 values: write 16 at most":                                           "dns: " + strings.Repeat("192.0.2.1 ", 17),
	} {
		m := newMachine(t)
		m.disk("sdb", "", isoOf(t, map[string]string{SeedFile: yaml + "\n"}))
		r := m.boot(nil)
		one(t, r.Problems, "the seed volume on /dev/sdb: ")
		one(t, r.Problems, want)
		if diff := cmp.Diff(map[string]string{networkPath: byDefault, hostnamePath: "hyper2kvm\n"}, m.etc()); diff != "" {
			t.Errorf("%q: %s", yaml, diff)
		}
	}
}

// line is a PEM text as it is when it was pasted into a field of one line.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }

func isoOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	s := Seed{}
	for name, text := range files {
		s[name] = []byte(text)
	}
	path := filepath.Join(t.TempDir(), "x.iso")
	if err := s.Write(t.Context(), path, ISO, false); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Nobody's agent is kept from starting by what a seed says.
func TestSettingsThatTheAgentRefusesAreLeftOut(t *testing.T) {
	m := newMachine(t)
	m.put("etc/hyper2kvm/config.yaml", "engine: {shape: hub}\n")
	m.seed(ISO, map[string]string{"settings": "storages: [{name: a, path: /srv/a}]"})
	if r := m.boot(nil); len(r.Problems) > 0 || m.etc()[agentPath] == "" {
		t.Errorf("good ones: %q", r.Problems)
	}
	m.put("etc/hyper2kvm/config.d/10-site.yaml", "storages: [{name: b, path: /srv/b}]\nlimits: [{storage: b, atOnce: 1}]\n")
	r := m.boot(nil) // whose storages replace those that the limit is for
	one(t, r.Problems, "settings: etc/hyper2kvm/config.d/10-site.yaml:2: limits[0].storage: there is no storage b")
	if m.etc()[agentPath] != "" {
		t.Error("they are there")
	}
	m.put("etc/hyper2kvm/config.d/10-site.yaml", "capacity: none\n")
	one(t, m.boot(nil).Problems, "the agent's own settings: ")
}

// A disk that is full, or read-only, is told; what could be written is whole.
func TestWhatCannotBeWrittenIsTold(t *testing.T) {
	m := newMachine(t)
	m.put("etc/systemd/resolved.conf.d", "a file, where a folder is to be")
	m.seed(ISO, map[string]string{"dns": "192.0.2.53", "ntp": "192.0.2.7"})
	_, err := Boot{m.root, nil}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "/"+resolvedPath) {
		t.Errorf("Run = %v", err)
	}
	r, err := ReadReport(m.root)
	if err != nil || len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0], "not all could be done: /"+resolvedPath) {
		t.Errorf("the report is %+v, %v", r, err)
	}
	if m.network() == "" || m.etc()[timesyncPath] != "" {
		t.Errorf("there are %q", sorted(m.etc()))
	}
}

func TestPropertiesAreTheKeys(t *testing.T) {
	list := Properties()
	for i, p := range list {
		k, ok := keyNamed(p.Key)
		if !ok || p.Key != keys[i].name || p.Type != "string" || p.Label == "" || p.Description == "" || p.Password != k.secret || !strings.HasPrefix(p.Qualifiers, "MaxLen(") {
			t.Errorf("%+v", p)
		}
		if s := vmware(t, map[string]string{p.Key: "x"}); s.said[p.Key] != "x" || len(s.problems) > 0 {
			t.Errorf("%s is read as %q, %q", p.Key, s.said[p.Key], s.problems)
		}
	}
	if len(list) != len(keys) || len(Flags()) != len(keys) {
		t.Errorf("%d properties of %d keys", len(list), len(keys))
	}
}

func vmware(t *testing.T, values map[string]string) *source {
	t.Helper()
	return fromVMware(context.Background(), variables(map[string]string{ovfEnvironment: vsphere(values)}))[0]
}

// Private files lie in private folders; others' stay open.
func TestFoldersOfPrivateFilesArePrivate(t *testing.T) {
	m := newMachine(t)
	certificate, _ := pair(t, "marta")
	m.seed(ISO, map[string]string{"ssh-key": sshKey, "trust": certificate, "join-token": token(t)})
	m.boot(nil)
	for folder, want := range map[string]os.FileMode{"etc/ssh": 0o755, "etc/ssh/authorized_keys.d": 0o700, "etc/hyper2kvm": 0o755, "etc/hyper2kvm/tls": 0o700, "etc/credstore": 0o700} {
		if info, err := os.Stat(filepath.Join(m.root, folder)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", folder, info.Mode(), err, want)
		}
	}
}
