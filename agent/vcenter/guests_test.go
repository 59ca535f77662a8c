package vcenter

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hyper2kvm/agent/config"
	"hyper2kvm/agent/seal"
	"hyper2kvm/vmware/transport"
	"hyper2kvm/vmware/vmwaretest"
)

// TestTheSettingsSayHowDisksAreRead: what a server's settings say of transports comes to
// those who read.
func TestTheSettingsSayHowDisksAreRead(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, _ := pool(t, s)
	p.config.File = func(name string) string { return "/run/" + name }
	set := &p.servers[0].Server
	set.VDDK, set.VDDKModes, set.VDDKPlugin = "/srv/vddk", "san:nbdssl", "/srv/plugin.so"
	set.SSH = &config.SSH{User: "root", Key: "key", Fingerprint: "SHA256:x"}
	w, err := p.Server(t.Context(), "vc1")
	if err != nil {
		t.Fatal(err)
	}
	c := settled(w, t.TempDir(), slog.New(slog.DiscardHandler))
	if c.VDDK != "/srv/vddk" || c.VDDKModes != "san:nbdssl" || c.VDDKPlugin != "/srv/plugin.so" {
		t.Errorf("VDDK is %q with modes %q and plugin %q", c.VDDK, c.VDDKModes, c.VDDKPlugin)
	}
	if diff := cmp.Diff(&transport.SSH{User: "root", Key: "/run/key", Fingerprint: "SHA256:x"}, c.SSH, cmpopts.IgnoreUnexported(transport.SSH{})); diff != "" {
		t.Error(diff)
	}
	if set.SSH.Key != "key" {
		t.Errorf("the settings' key became %s", set.SSH.Key)
	}
	set.SSH = &config.SSH{User: "root", Key: "key", KnownHosts: "/hosts"}
	if w, err = p.Server(t.Context(), "vc1"); err != nil || settled(w, "", nil).SSH.HostKeys != "/hosts" {
		t.Errorf("its hosts' keys are in %+v, %v", w.SSH, err)
	}
}

// TestHostsAreLoggedInToWithASealedPassword, which the settings only name.
func TestHostsAreLoggedInToWithASealedPassword(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, k := pool(t, s)
	p.config.File = func(name string) string { return name }
	p.config.Secret = func(ctx context.Context, name string) (seal.Secret, uint64, error) {
		switch name {
		case "esx-root":
			return seal.Secret("hunter2"), 7, nil
		case "gone":
			return nil, 0, errors.New("there is no secret gone")
		}
		return k.open(ctx, name)
	}
	p.servers[0].SSH = &config.SSH{User: "root", Secret: "esx-root", Port: 2222, KnownHosts: "/hosts"}
	w, err := p.Server(t.Context(), "vc1")
	if err != nil {
		t.Fatal(err)
	}
	c := settled(w, "", nil)
	if c.SSH.Port != 2222 || c.SSH.Password == nil || c.SSH.Password() != "hunter2" || string(w.Password) != s.Password {
		t.Errorf("the hosts are logged in to by %+v", c.SSH)
	}
	p.servers[0].SSH.Secret = "gone"
	if _, err := p.Server(t.Context(), "vc1"); err == nil || !strings.Contains(err.Error(), "the password for SSH at the hosts of the server vc1: there is no secret gone") {
		t.Errorf("Server = %v", err)
	}
}
