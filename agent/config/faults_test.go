package config

import (
	"fmt"
	"strings"
	"testing"
)

const storages = "storages:\n- {name: vmware, path: /srv/vmware, use: source}\n- {name: kvm, path: /srv/kvm, use: target}\n"

func peers(n int) string {
	text := "appliance: {name: a0}\nengine:\n  shape: cluster\n  cluster:\n    name: f\n    peers:\n"
	for i := range n {
		text += fmt.Sprintf("    - {name: a%d, address: 'a%d:6222'}\n", i, i)
	}
	return text
}

// servers are two of vSphere, of which the second says something otherwise.
func servers(other string) string {
	second := map[string]string{"name": "vc2", "server": "vc2.example.com", "user": "u", "secret": "s"}
	field, _, _ := strings.Cut(other, ":")
	delete(second, field)
	for name, value := range second {
		other += ", " + name + ": " + value
	}
	return "vsphere:\n- {name: vc1, server: vc1.example.com, user: u, secret: s}\n- {" + other + "}"
}

// faults is what is said of each file; the file's name is left out.
var faults = map[string]string{
	"capcity: 3":                            "1: capcity: there is no such field: write capacity",
	"capacity: 0":                           "1: capacity: is 0: write at least 1",
	"capacity: all":                         `1: capacity: is "all": write a whole number`,
	"log:\n  level: loud":                   `2: log.level: is "loud": write debug, info, warn or error`,
	"listen: []":                            "1: listen: has 0 entries: write at least 1",
	"listen:\n- https: ':8443'\n  vsock: 1": "2: listen[0]: has the fields https, vsock: write one of https, unix and vsock in each entry",
	"listen: [https: 8443]":                 "1: listen[0].https: is 8443: write a port, with an address of this host if not on all, such as :8443 or 192.0.2.7:8443",
	"listen: [https: ':84430']":             `1: listen[0].https: is ":84430": write a port from 1 to 65535, such as :8443`,
	"listen: [unix: /" + strings.Repeat("s", 107) + "]":                            "1: listen[0].unix: has 108 bytes: a socket's path has at most 107",
	"tls: {certificate: /c.pem}":                                                   "1: tls: has one of certificate and key: give both, or neither",
	"storages:\n- name: kvm":                                                       "2: storages[0]: lacks path: its folder on this appliance",
	"storages: [{name: K, path: /x}]":                                              `1: storages[0].name: is "K": write small letters, digits and hyphens, 63 at most`,
	"storages: [{name: k, path: x}]":                                               `1: storages[0].path: is "x": write a path that begins with a slash`,
	"storages: [{name: k, path: /x/../y/}]":                                        `1: storages[0].path: is "/x/../y/": write /y`,
	"storages: [{name: k, path: /x, use: no}]":                                     `1: storages[0].use: is "no": write source, target or both`,
	"storages:\n- {name: k, path: /x}\n- {name: k, path: /y}":                      "3: storages[1].name: another storage has the name k: give each its own",
	"storages:\n- {name: k, path: /x}\n- {name: l, path: /x}":                      "3: storages[1].path: is the storage k: a folder is one storage",
	"storages: [{name: k, path: /var/lib/hyper2kvm/results}]":                      "1: storages[0].path: /var/lib/hyper2kvm/results and the state /var/lib/hyper2kvm lie in one another: choose a folder apart",
	"state: /srv/a/state\nstorages: [{name: k, path: /srv/a}]":                     "2: storages[0].path: /srv/a and the state /srv/a/state lie in one another: choose a folder apart",
	"storages: [{name: k, path: /}]":                                               "1: storages[0].path: / and the state /var/lib/hyper2kvm lie in one another: choose a folder apart",
	"limits: [{storage: kvm, atOnce: 1}]":                                          "1: limits[0].storage: there is no storage kvm: put it into storages",
	storages + "limits:\n- {storage: kvm, atOnce: 1}\n- {storage: kvm, atOnce: 2}": "6: limits[1].storage: the storage kvm has a limit already: keep one",
	servers("name: vc1"):                                                           "3: vsphere[1].name: another server has the name vc1: give each its own",
	servers("server: 'https://vc'"):                                                `3: vsphere[1].server: is "https://vc": write a host's name or address, with a port if it is not 443`,
	servers("server: '::1'"):                                                       `3: vsphere[1].server: is "::1": write a host's name or address, such as vcenter.example.com or [2001:db8::7]:8443`,
	servers("thumbprint: 'AA:BB'"):                                                 `3: vsphere[1].thumbprint: is "AA:BB": write SHA-256 or SHA-1 in hexadecimal, as hyper2kvm vsphere thumbprint shows it`,
	servers("thumbprint: '" + strings.Repeat("ab", 25) + "'"):                      `3: vsphere[1].thumbprint: has 50 digits: SHA-256 has 64, SHA-1 has 40`,
	servers("proxy: 'http://u:hunter2@proxy:3128'"):                                "3: vsphere[1].proxy: holds a user, which may be secret: name a proxy that needs none",
	servers("resolve: {esx1: 'u@h'}"):                                              `3: vsphere[1].resolve: has "u@h" for "esx1": write a host's name and its address`,
	servers("vddk: other"):                                                         `3: vsphere[1].vddk: is "other": write vddk, or the path of a folder`,
	servers("vddkModes: 'san,nbd', vddk: vddk"):                                    `3: vsphere[1].vddkModes: is "san,nbd": write names with colons between them, such as san:nbdssl`,
	servers("vddkModes: san"):                                                      "3: vsphere[1].vddkModes: is of VMware's library, and vddk is not there: say in it where that is",
	servers("vddkPlugin: /p.so"):                                                   "3: vsphere[1].vddkPlugin: is of VMware's library, and vddk is not there: say in it where that is",
	servers("ssh: {user: root, key: /k}"):                                          "3: vsphere[1].ssh: has to name one of knownHosts and fingerprint: by which keys are the ESXi hosts known?",
	servers("ssh: {user: root, knownHosts: /h}"):                                   "3: vsphere[1].ssh: has to name a key or a secret: by what does its user log in?",
	servers("ssh: {user: root, key: /k, knownHosts: /h, port: 65536}"):             "3: vsphere[1].ssh.port: is 65536: write ",
	servers("ssh: {user: root, password: hunter2, knownHosts: /h}"):                "3: vsphere[1].ssh.password: there is no such field; there are ",
	servers("ssh: {user: root, key: /k, fingerprint: 'AA:BB'}"):                    `3: vsphere[1].ssh.fingerprint: is "AA:BB": write SHA256: and 43 characters, as ssh-keygen -l prints it`,
	servers("transports: [vddk]"):                                                  "3: vsphere[1].transports: has vddk, and vddk is not there: say in it where VMware's library is",
	servers("transports: [ssh]"):                                                   "3: vsphere[1].transports: has ssh, and ssh is not there: say in it who logs in",
	servers("transports: [smoke]"):                                                 `3: vsphere[1].transports[0]: is "smoke": write `,
	servers("password: hunter2"):                                                   "3: vsphere[1].password: there is no such field; there are ",
	"engine: {lease: 1s}":                                                          "1: engine.lease: is 1s: write from 5s to 10m0s",
	"engine: {lease: 11m}":                                                         "1: engine.lease: is 11m0s: write from 5s to 10m0s",
	"engine: {lease: 1.5m}":                                                        `1: engine.lease: is "1.5m": write a number with its unit, such as 30s, 10m, 24h or 365d, of five digits at most`,
	"engine: {lease: 30}":                                                          "1: engine.lease: is 30: write a number with its unit, such as 30s, 10m, 24h or 365d, of five digits at most",
	"engine:\n  hub: {}":                                                           "2: engine.hub: the shape is single: write shape: hub, or hub: null to remove it",
	"engine: {shape: worker}":                                                      "1: engine.shape: is worker, and engine.worker is not there: say in it what it joins",
	"engine: {shape: worker, worker: {hub: hub}}":                                  `1: engine.worker.hub: is "hub": write a host and a port, such as hub.example.org:4222`,
	"engine: {shape: external, external: {url: 'nats://u:hunter2@nats:4222'}}":     "1: engine.external.url: is not what is wanted here: write an address such as tls://nats.example.org:4222, without a user",
	peers(2): "6: engine.cluster.peers: is a list of 2: write 3 or 5 peers: two voting nodes lose their quorum with either, so that they are worse than one",
	peers(4): "6: engine.cluster.peers: is a list of 4: write 3 or 5 peers: ",
	peers(1): "6: engine.cluster.peers: is a list of 1: write 3 or 5 peers: ",
	peers(7): "6: engine.cluster.peers: is a list of 7: write 3 or 5 peers: ",
	strings.Replace(peers(3), "name: a0}\nengine", "name: b}\nengine", 1):                                 "6: engine.cluster.peers: none is this appliance, b: name all that vote, or set appliance.name",
	strings.Replace(peers(3), "a2:", "a1:", 1):                                                            "9: engine.cluster.peers[2].name: a2 is there twice: each peer has a name and an address of its own",
	"hooks: {folder: hooks.d}":                                                                            `1: hooks.folder: is "hooks.d": write a path that begins with a slash`,
	"hooks: {user: 'a b'}":                                                                                `1: hooks.user: is "a b": write the name or the number of a user of this host`,
	"hooks: {webhooks: [{name: w}]}":                                                                      "1: hooks.webhooks[0]: w needs one of url and urlSecret",
	"notify: {webhooks: [{name: w, url: 'https://h', urlSecret: s}]}":                                     "1: notify.webhooks[0]: w needs one of url and urlSecret",
	"notify: {webhooks: [{name: w, url: 'ftp://h'}]}":                                                     `1: notify.webhooks[0].url: is not what is wanted here: write an address such as https://hooks.example.org/path`,
	"notify: {webhooks: [{name: w, url: 'https://u:hunter2@h/'}]}":                                        "1: notify.webhooks[0].url: holds a user or a query, which may be secret: seal the whole address, and name that secret in urlSecret",
	"notify: {webhooks: [{name: w, url: 'https://h/?sig=hunter2'}]}":                                      "1: notify.webhooks[0].url: holds a user or a query",
	"notify: {webhooks: [{name: w, url: 'https://h', secret: 'hunter2 !'}]}":                              "1: notify.webhooks[0].secret: is not what is wanted here: write the name of a sealed secret, not the secret: small letters, digits and hyphens, 63 at most",
	"notify: {webhooks: [{name: w, url: 'https://h', events: [ended]}]}":                                  `1: notify.webhooks[0].events[0]: is "ended": write queued, running, planned, paused, done, failed or cancelled`,
	"notify:\n  webhooks:\n  - {name: w, url: 'https://h'}\n  - {name: w, url: 'https://i'}":              "4: notify.webhooks[1].name: another webhook has the name w: give each its own",
	"notify: {mail: {server: 'm:25', from: a@b}}":                                                         "1: notify.mail: lacks to: the receivers",
	"notify: {mail: {server: 'm:25', from: 'a@b\nBcc: c', to: [a@b]}}":                                    `1: notify.mail.from: is "a@b Bcc: c": write an address such as ops@example.org`,
	"notify: {mail: {server: 'm:25', from: a@b, to: [a@b], password: hunter2}}":                           "1: notify.mail.password: there is no such field; there are encryption, events, from, secret, server, to, user",
	"notify: {mail: {server: 'm:25', from: a@b, to: [a@b], user: u}}":                                     "1: notify.mail: has one of user and secret: give both, or neither",
	"notify: {mail: {server: 'm:25', from: a@b, to: [a@b], user: u, secret: s, encryption: none}}":        "1: notify.mail.encryption: is none, and the password would be read by anybody in between: write startTLS or tls",
	storages + "watch: [{storage: kvm, folder: in, target: kvm}]":                                         "4: watch[0].storage: the storage kvm is for target alone: set its use to both",
	storages + "watch: [{storage: vmware, folder: /in, target: kvm}]":                                     "4: watch[0].folder: begins with a slash: write it as it is in the storage",
	storages + "watch: [{storage: vmware, folder: in, target: none}]":                                     "4: watch[0].target: there is no storage none: put it into storages",
	storages + "watch: [{storage: vmware, folder: in, target: kvm, settled: 1s}]":                         "4: watch[0].settled: is 1s: write from 5s to 24h0m0s",
	storages + "watch:\n- storage: vmware\n  folder: in\n  target: kvm\n  spec: {mod: plan}":              "8: watch[0].spec.mod: there is no such field: write mode",
	storages + "watch:\n- storage: vmware\n  folder: in\n  target: kvm\n  spec:\n    name: x":             "9: watch[0].spec.name: is each guest's own: leave it out",
	storages + "watch:\n- storage: vmware\n  folder: in\n  target: kvm\n  spec: {target: {storage: x}}":   "8: watch[0].spec.target.storage: is said by the field target: leave it out",
	storages + "watch:\n- storage: vmware\n  folder: in\n  target: kvm\n  spec:\n    limits:\n    - fast": `10: watch[0].spec.limits[0]: cannot use the limit "fast"`,
	"keep: {for: 1h}":        "1: keep.for: is 1h0m0s: write from 24h0m0s to 876000h0m0s",
	"audit: {keep: 1h}":      "1: audit.keep: is 1h0m0s: write from 24h0m0s to 876000h0m0s",
	"audit: {keep: 999999d}": `1: audit.keep: is "999999d": write a number`,
	"oidc: {issuer: 'http://id', clientID: c, redirect: 'https://a/login/callback', roles: {g: admin}}": "1: oidc.issuer: is not https: anybody in between could log in",
	"oidc: {issuer: 'https://id', clientID: c, redirect: 'https://a/login/callback', roles: {g: root}}": `1: oidc.roles.g: is "root": write viewer, operator or admin`,
	"oidc: {issuer: 'https://id', clientID: c, redirect: 'https://a/', roles: {g: admin}}":              `1: oidc.redirect: is "https://a/": write https://NAME/login/callback`,
	"- a":   "1: does not begin with a field: write name: value",
	"a: [1": "1: is not YAML: ",
}

func TestFaultsNameFileLineFieldAndWhatToWrite(t *testing.T) {
	for text, want := range faults {
		file := write(t, text)[0]
		_, err := load([]string{file}, small)
		if err == nil {
			t.Errorf("%s\nis accepted, want %s", text, want)
			continue
		}
		if !strings.HasPrefix(err.Error(), file+":"+want) {
			t.Errorf("%s\n  is %s\nwant %s", text, strings.TrimPrefix(err.Error(), file+":"), want)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
}
