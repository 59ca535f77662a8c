package config

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// servers are of vSphere, each with a name of its own.
func (c *checker) servers() {
	for i, s := range c.VSphere {
		at := fmt.Sprintf("vsphere.%d.", i)
		for _, before := range c.VSphere[:i] {
			if before.Name == s.Name {
				c.wrong(at+"name", "another server has the name %s: give each its own", s.Name)
			}
		}
		c.server(at, s)
	}
}

func (c *checker) server(at string, s Server) {
	if u, err := url.Parse("https://" + s.Server); err != nil || u.Hostname() == "" {
		c.wrong(at+"server", "is %q: write a host's name or address, such as vcenter.example.com or [2001:db8::7]:8443", s.Server)
	}
	n := len(strings.ReplaceAll(s.Thumbprint, ":", ""))
	if s.Thumbprint != "" && n != hex.EncodedLen(20) && n != hex.EncodedLen(32) {
		c.wrong(at+"thumbprint", "has %d digits: SHA-256 has 64, SHA-1 has 40", n)
	}
	if u, err := url.Parse(s.Proxy); err != nil || u.User != nil {
		c.wrong(at+"proxy", "holds a user, which may be secret: name a proxy that needs none")
	}
	for host, to := range s.Resolve {
		if host == "" || strings.ContainsAny(host+to, " /@") {
			c.wrong(at+"resolve", "has %q for %q: write a host's name and its address", to, host)
		}
	}
	if s.SSH == nil && slices.Contains(s.Transports, "ssh") {
		c.wrong(at+"transports", "has ssh, and ssh is not there: say in it who logs in")
	}
	if s.SSH != nil && (s.SSH.KnownHosts == "") == (s.SSH.Fingerprint == "") {
		c.wrong(at+"ssh", "has to name one of knownHosts and fingerprint: by which keys are the ESXi hosts known?")
	}
	if s.SSH != nil && s.SSH.Key == "" && s.SSH.Secret == "" {
		c.wrong(at+"ssh", "has to name a key or a secret: by what does its user log in?")
	}
	for _, f := range []struct{ field, value string }{{"vddkModes", s.VDDKModes}, {"vddkPlugin", s.VDDKPlugin}} {
		if f.value != "" && s.VDDK == "" {
			c.wrong(at+f.field, "is of VMware's library, and vddk is not there: say in it where that is")
		}
	}
	if s.VDDK == "" && slices.Contains(s.Transports, "vddk") {
		c.wrong(at+"transports", "has vddk, and vddk is not there: say in it where VMware's library is")
	}
}
