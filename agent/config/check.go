package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/layers"
	"hyper2kvm/agent/spec"
)

// checker collects what is wrong with settings that their schema has nothing against.
type checker struct {
	*Settings
	faults layers.Faults
}

func (s *Settings) check() layers.Faults {
	c := &checker{Settings: s}
	c.folders()
	c.limits()
	c.servers()
	c.ways()
	c.engine()
	c.webhooks("hooks", s.Hooks.Webhooks)
	c.webhooks("notify", s.Notify.Webhooks)
	c.mail()
	c.watch()
	c.times()
	c.provider()
	return c.faults
}

// wrong notes a fault of the field at a path with dots.
func (c *checker) wrong(path, format string, args ...any) {
	c.faults = append(c.faults, c.values.Fault(strings.Split(path, "."), format, args...))
}

// folders are the state's, the hooks' and the storages', each of its own.
func (c *checker) folders() {
	c.clean("state", c.State)
	c.clean("hooks.folder", c.Hooks.Folder)
	for i, s := range c.Storages {
		at := fmt.Sprintf("storages.%d.", i)
		c.clean(at+"path", s.Path)
		if within(s.Path, c.State) || within(c.State, s.Path) {
			c.wrong(at+"path", "%s and the state %s lie in one another: choose a folder apart", s.Path, c.State)
		}
		for _, before := range c.Storages[:i] {
			if before.Name == s.Name {
				c.wrong(at+"name", "another storage has the name %s: give each its own", s.Name)
			}
			if before.Path == s.Path {
				c.wrong(at+"path", "is the storage %s: a folder is one storage", before.Name)
			}
		}
	}
}

// clean holds a path to one way of writing it.
func (c *checker) clean(field, path string) {
	if want := filepath.Clean(path); want != path {
		c.wrong(field, "is %q: write %s", path, want)
	}
}

func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

func (c *checker) storage(name string) (Storage, bool) {
	for _, s := range c.Storages {
		if s.Name == name {
			return s, true
		}
	}
	return Storage{}, false
}

// known notes a storage that is not there, or is not for that use.
func (c *checker) known(field, name string, use model.StorageUse) {
	switch s, ok := c.storage(name); {
	case !ok:
		c.wrong(field, "there is no storage %s: put it into storages", name)
	case use != "" && s.Use != use && s.Use != model.StorageUseBoth:
		c.wrong(field, "the storage %s is for %s alone: set its use to both", name, s.Use)
	}
}

func (c *checker) limits() {
	seen := map[string]bool{}
	for i, l := range c.Limits {
		field := fmt.Sprintf("limits.%d.storage", i)
		c.known(field, l.Storage, "")
		if seen[l.Storage] {
			c.wrong(field, "the storage %s has a limit already: keep one", l.Storage)
		}
		seen[l.Storage] = true
	}
}

// ways are those in: addresses, sockets and the certificate.
func (c *checker) ways() {
	for i, l := range c.Listen {
		if l.HTTPS != "" {
			c.address(fmt.Sprintf("listen.%d.https", i), l.HTTPS)
		}
		if len(l.Unix) > 107 { // unix(7), sun_path
			c.wrong(fmt.Sprintf("listen.%d.unix", i), "has %d bytes: a socket's path has at most 107", len(l.Unix))
		}
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		c.wrong("tls", "has one of certificate and key: give both, or neither")
	}
}

// address notes a port that there cannot be, or what is no address of a host's.
func (c *checker) address(field, text string) {
	host, port, err := net.SplitHostPort(text)
	if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 1 || n > 65535 {
		c.wrong(field, "is %q: write a port from 1 to 65535, such as :8443", text)
	} else if host != "" && net.ParseIP(host) == nil && strings.ContainsAny(host, "_:%") {
		c.wrong(field, "is %q: write an address of this host, such as 192.0.2.7:8443", text)
	}
}

func (c *checker) webhooks(part string, list []Webhook) {
	seen := map[string]bool{}
	for i, w := range list {
		at := fmt.Sprintf("%s.webhooks.%d", part, i)
		if seen[w.Name] {
			c.wrong(at+".name", "another webhook has the name %s: give each its own", w.Name)
		}
		seen[w.Name] = true
		if (w.URL == "") == (w.URLSecret == "") {
			c.wrong(at, "%s needs one of url and urlSecret", w.Name)
		}
		if w.URL == "" {
			continue
		}
		u, err := url.Parse(w.URL)
		switch {
		case err != nil || u.Host == "":
			c.wrong(at+".url", "is no address: write one such as https://hooks.example.org/path")
		case u.User != nil || u.RawQuery != "" || u.Fragment != "":
			c.wrong(at+".url", "holds a user or a query, which may be secret: seal the whole address, and name that secret in urlSecret")
		}
	}
}

func (c *checker) mail() {
	m := c.Notify.Mail
	switch {
	case m == nil:
		return
	case (m.User == "") != (m.Secret == ""):
		c.wrong("notify.mail", "has one of user and secret: give both, or neither")
	case m.User != "" && m.Encryption == "none":
		c.wrong("notify.mail.encryption", "is none, and the password would be read by anybody in between: write startTLS or tls")
	}
	c.address("notify.mail.server", m.Server)
}

// watch are folders of storages, and what is asked for of the guests in them.
func (c *checker) watch() {
	for i, w := range c.Watch {
		at := fmt.Sprintf("watch.%d.", i)
		c.known(at+"storage", w.Storage, model.StorageUseSource)
		c.known(at+"target", w.Target, model.StorageUseTarget)
		c.between(at+"settled", w.Settled, 5*time.Second, 24*time.Hour)
		given := c.values.At("watch", strconv.Itoa(i), "spec")
		for _, field := range []string{"source", "name"} {
			if given.Fields[field] != nil {
				c.wrong(at+"spec."+field, "is each guest's own: leave it out")
			}
		}
		if given.At("target").Fields["storage"] != nil {
			c.wrong(at+"spec.target.storage", "is said by the field target: leave it out")
		}
		whole := w.Spec
		whole.Source, whole.Target.Storage = model.Source{Storage: w.Storage, Path: w.Folder}, w.Target
		for _, p := range spec.Check(whole) {
			if p.Path[0] == "source" {
				c.wrong(at+"folder", "%s", p.Words)
				continue
			}
			c.wrong(at+"spec."+strings.Join(p.Path, "."), "%s", p.Words)
		}
	}
}

func (c *checker) times() {
	c.between("engine.lease", c.Engine.Lease, 5*time.Second, 10*time.Minute)
	c.between("audit.keep", c.Audit.Keep, 24*time.Hour, 100*365*24*time.Hour)
	c.between("keep.for", c.Keep.For, 24*time.Hour, 100*365*24*time.Hour)
}

func (c *checker) between(field string, d Duration, least, most time.Duration) {
	if t := time.Duration(d); t < least || t > most {
		c.wrong(field, "is %v: write from %v to %v", t, least, most)
	}
}

// provider is where people log in, if it is there.
func (c *checker) provider() {
	o := c.OIDC
	if o == nil {
		return
	}
	if !strings.HasPrefix(o.Issuer, "https://") {
		c.wrong("oidc.issuer", "is not https: anybody in between could log in")
	}
	if u, err := url.Parse(o.Redirect); err != nil || u.Scheme != "https" || u.Path != LoginCallback || u.RawQuery != "" {
		c.wrong("oidc.redirect", "is %q: write https://NAME%s", o.Redirect, LoginCallback)
	}
}
