package vmware

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

var quiet = log.New(io.Discard, "", 0)

func TestConnectToVCenterAndToESXi(t *testing.T) {
	for name, model := range map[string]*simulator.Model{"vCenter": simulator.VPX(), "ESXi": simulator.ESX()} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, model)
			session := s.connect(t)
			if session.VCenter() != (name == "vCenter") {
				t.Errorf("VCenter() = %v", session.VCenter())
			}
			if n := len(s.sessions(t)); n != 1 {
				t.Errorf("the server has %d sessions", n)
			}
		})
	}
}

func TestAThumbprintIsPinnedHoweverItIsWritten(t *testing.T) {
	s := newSite(t, simulator.ESX())
	for _, print := range []string{sha256Of(s.Certificate()), sha1Of(s.Certificate())} {
		for _, spelt := range []string{print, strings.ToLower(print), strings.ReplaceAll(print, ":", ""), " " + strings.ToLower(strings.ReplaceAll(print, ":", "")) + "\n"} {
			c := s.config()
			c.Thumbprint = spelt
			session, err := Connect(t.Context(), c)
			if err != nil {
				t.Fatalf("Connect with thumbprint %q: %v", spelt, err)
			}
			if got, want := session.Thumbprint(), sha1Of(s.Certificate()); got != want {
				t.Errorf("Thumbprint() = %s, want %s", got, want)
			}
			if err := session.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAServerThatIsNotTrustedShowsItsThumbprint(t *testing.T) {
	s := newSite(t, simulator.ESX())
	found := []string{sha256Of(s.Certificate()), sha1Of(s.Certificate()), "compare it with"}
	other := strings.Repeat("AB:", 31) + "AB"
	for _, c := range []struct {
		thumbprint string
		says       []string
	}{
		{other, append(found, other, "not the server that was pinned")},
		{"", append(found, "no authority", "give it")},
	} {
		config := s.config()
		config.Thumbprint = c.thumbprint
		_, err := Connect(t.Context(), config)
		wantError(t, err, ErrConnect, c.says...)
	}
	if n := s.count("Login"); n != 0 {
		t.Errorf("%d log-ins were sent to a server that is not trusted", n)
	}
}

func TestAMistypedThumbprintIsSaid(t *testing.T) {
	for _, print := range []string{"AB", "not hex", strings.Repeat("AB:", 21)} {
		_, err := Connect(t.Context(), Config{Server: "127.0.0.1", Thumbprint: print})
		wantError(t, err, ErrConnect, "neither SHA-256", "40")
	}
}

func TestAnAuthorityVouchesForTheNameToo(t *testing.T) {
	s := newSite(t, simulator.ESX())
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	c := s.config()
	c.Thumbprint, c.CA = "", s.ca(t)
	session, err := Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(t.Context())
	c.Server = "localhost:" + port
	_, err = Connect(t.Context(), c)
	wantError(t, err, ErrConnect, "127.0.0.1", "example.com", "not for localhost", sha256Of(s.Certificate()))
	c.CA = "session_test.go"
	_, err = Connect(t.Context(), c)
	wantError(t, err, ErrConnect, "BEGIN CERTIFICATE")
}

func TestConnectOverIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	} else {
		l.Close()
	}
	s := newSiteAt(t, simulator.ESX(), "[::1]:0")
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, server := range []string{"[::1]:" + port, "https://[::1]:" + port + "/sdk"} {
		c := s.config()
		c.Server, c.Thumbprint, c.CA = server, "", s.ca(t)
		session, err := Connect(t.Context(), c)
		if err != nil {
			t.Fatalf("Connect(%q): %v", server, err)
		}
		session.Close(t.Context())
	}
}

func TestAddressesAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]string{
		"vc.example.com":             "vc.example.com 443 vc.example.com:443",
		"VC:8443":                    "VC 8443 10.0.0.7:9443",
		"vc":                         "vc 443 10.0.0.8:443",
		"vc.":                        "vc. 443 10.0.0.8:443",
		"six":                        "six 443 [fd00::6]:443",
		"https://vc.example.com/ui/": "vc.example.com 443 vc.example.com:443",
		"fd00::1":                    "fd00::1 443 [fd00::1]:443",
		"[fd00::1]:9":                "fd00::1 9 [fd00::1]:9",
		"192.0.2.1":                  "192.0.2.1 443 192.0.2.1:443",
	} {
		n, err := Config{Resolve: map[string]string{"vc": "10.0.0.8", "Vc:8443": "10.0.0.7:9443", "six.": "fd00::6"}}.network()
		if err != nil {
			t.Fatal(err)
		}
		p, err := n.peer(text, "")
		if err != nil {
			t.Errorf("peer(%q): %v", text, err)
			continue
		}
		if got := p.name + " " + p.port + " " + p.address; got != want {
			t.Errorf("peer(%q) = %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "http://vc", "https://", "user:" + sitePassword + "@vc", "vc:port", "%zz"} {
		_, err := Connect(t.Context(), Config{Server: text})
		wantError(t, err, ErrConnect, "host name")
	}
}

func TestAnUnknownNameIsReachedByItsAddress(t *testing.T) {
	s := newSite(t, simulator.VPX())
	c := s.config()
	c.Server, c.Resolve = "vc..unknown", map[string]string{"VC..unknown": s.Listener.Addr().String(), "esx1": "192.0.2.4"}
	session, err := Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(t.Context())
	if got, want := session.URL().String(), "https://"+s.Listener.Addr().String(); got != want {
		t.Errorf("URL() = %s, want %s", got, want)
	}
	if got := session.Address("ESX1"); got != "192.0.2.4" {
		t.Errorf("Address(ESX1) = %s", got)
	}
	if got := session.Address("fd00::1"); got != "fd00::1" {
		t.Errorf("Address(fd00::1) = %s", got)
	}
}

func TestConnectThroughAProxy(t *testing.T) {
	s := newSite(t, simulator.ESX())
	t.Run("given", func(t *testing.T) {
		p := newTunnel(t, http.StatusOK)
		c := s.config()
		c.Proxy = strings.Replace(p.URL, "http://", "http://joe:"+"sesame"+"@", 1)
		session, err := Connect(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		session.Close(t.Context())
		if asked := p.hosts(); len(asked) == 0 || asked[0] != c.Server+" with credentials" {
			t.Errorf("the proxy was asked for %v", asked)
		}
		c.Thumbprint = strings.Repeat("00", 32)
		_, err = Connect(t.Context(), c)
		wantError(t, err, ErrConnect, sha256Of(s.Certificate()))
	})
	t.Run("of the environment", func(t *testing.T) {
		p := newTunnel(t, http.StatusOK)
		t.Setenv("HTTPS_PROXY", p.URL)
		t.Setenv("NO_PROXY", "near.example")
		c := s.config()
		for server, want := range map[string]bool{"far.example": true, "near.example": false} {
			c.Server, c.Resolve = server, map[string]string{server: s.Listener.Addr().String()}
			p.hosts()
			session, err := Connect(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			session.Close(t.Context())
			if asked := p.hosts(); len(asked) > 0 != want {
				t.Errorf("to %s the proxy was asked for %v", server, asked)
			}
		}
	})
	t.Run("that refuses", func(t *testing.T) {
		p := newTunnel(t, http.StatusProxyAuthRequired)
		c := s.config()
		c.Proxy = strings.Replace(p.URL, "http://", "http://joe:sesame@", 1)
		_, err := Connect(t.Context(), c)
		wantError(t, err, ErrConnect, "the proxy "+p.Listener.Addr().String(), "407")
		if strings.Contains(err.Error(), "sesame") {
			t.Errorf("error %q tells the proxy's password", err)
		}
	})
	t.Run("that is no URL", func(t *testing.T) {
		c := s.config()
		c.Proxy = "ftp://joe:sesame@proxy"
		_, err := Connect(t.Context(), c)
		wantError(t, err, ErrConnect, "http://proxy.example.com:3128")
		if strings.Contains(err.Error(), "sesame") {
			t.Errorf("error %q tells the proxy's password", err)
		}
	})
}

func TestWhyAServerIsNotReached(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	answer := func(code int, text string) string {
		address, _ := listen(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
		})
		return address
	}
	plain := newTunnel(t, http.StatusOK)
	old, _ := listen(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, nil)
	soap := `<?xml version="1.0"?><Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>%s</Body></Envelope>`
	late := map[string]bool{"silent": true, "starting": true}
	for name, c := range map[string]struct{ server, says string }{
		"no such name":     {"vc..example", "does not resolve"},
		"closed":           {closedPort(t), "nothing listens"},
		"silent":           {silent.Addr().String(), "did not answer in time"},
		"no TLS":           {plain.Listener.Addr().String(), "does not speak TLS"},
		"old TLS":          {old, "TLS older than 1.2"},
		"another server":   {answer(http.StatusNotFound, "nothing"), "not a VMware server"},
		"a web page":       {answer(http.StatusOK, "<!doctype html><html><body>Hello</body></html>"), "not a VMware server"},
		"text":             {answer(http.StatusOK, "hello"), "not a VMware server"},
		"an empty answer":  {answer(http.StatusOK, strings.Replace(soap, "%s", "", 1)), "not a VMware server"},
		"another's answer": {answer(http.StatusOK, strings.Replace(soap, "%s", `<RetrieveServiceContentResponse xmlns="urn:vim25"/>`, 1)), "not a VMware server"},
		"broken":           {answer(http.StatusInternalServerError, "oops"), "not a VMware server"},
		"starting":         {answer(http.StatusServiceUnavailable, ""), "wait some minutes"},
		"forbidden":        {answer(http.StatusForbidden, ""), "refuses the request before any log-in"},
		"elsewhere":        {answer(http.StatusMovedPermanently, ""), "not a VMware server"},
	} {
		t.Run(name, func(t *testing.T) {
			if late[name] {
				short(t)
			}
			_, certificate := listen(t, nil, nil) // all of httptest's are one
			_, err := Connect(t.Context(), Config{Server: c.server, User: siteUser, Password: sitePassword, Thumbprint: sha256Of(certificate)})
			wantError(t, err, ErrConnect, c.says)
		})
	}
}

// short makes connecting give up soon, until the test ends.
func short(t testing.TB) {
	impatient(t)
	was := connectIn
	connectIn = 500 * time.Millisecond
	t.Cleanup(func() { connectIn = was })
}

func TestWhoIsCancelledHearsOfThat(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	enough := errors.New("the operator had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(enough) })
	_, err = Connect(ctx, Config{Server: silent.Addr().String()})
	wantError(t, err, enough)
}

func TestWhyALogInIsRefused(t *testing.T) {
	s := newSite(t, simulator.VPX())
	c := s.config()
	c.Password = "wrong"
	_, err := Connect(t.Context(), c)
	wantError(t, err, ErrLogin, siteUser, "password", "locked", "not tried again")
	c.User = "root"
	_, err = Connect(t.Context(), c)
	wantError(t, err, ErrLogin, "root@vsphere.local")
	if n := s.count("Login"); n != 2 {
		t.Errorf("two wrong passwords were sent %d times", n)
	}
	for _, f := range []struct {
		fault types.BaseMethodFault
		is    error
		says  string
	}{
		{&types.PasswordExpired{}, ErrLogin, "expired"},
		{&types.NoPermission{}, ErrPrivilege, "no role"},
	} {
		s.model.Service.AddFaultRule(&simulator.FaultInjectionRule{MethodName: "Login", ObjectType: "*", ObjectName: "*", Probability: 1, Enabled: true,
			FaultType: simulator.FaultTypeCustom, Fault: f.fault})
		_, err := Connect(t.Context(), s.config())
		wantError(t, err, f.is, f.says)
		s.model.Service.ClearFaultRules()
	}
	if keys := s.sessions(t); len(keys) != 0 {
		t.Errorf("sessions were left: %v", keys)
	}
}

func TestTheThumbprintForPeople(t *testing.T) {
	s := newSite(t, simulator.ESX())
	got, err := Thumbprint(t.Context(), Config{Server: s.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if got.SHA256 != sha256Of(s.Certificate()) || got.SHA1 != sha1Of(s.Certificate()) || len(got.Names) == 0 || got.Until.IsZero() {
		t.Errorf("Thumbprint() = %+v", got)
	}
	if len(s.calls) != 0 {
		t.Errorf("the server was sent %v", s.calls)
	}
	_, err = Thumbprint(t.Context(), Config{Server: "vc..example"})
	wantError(t, err, ErrConnect, "does not resolve")
}

func TestCloseLogsOutAlsoWhenItsCallerHasGone(t *testing.T) {
	s := newSite(t, simulator.ESX())
	ctx, cancel := context.WithCancel(t.Context())
	session, err := Connect(ctx, s.config())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := session.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if keys := s.sessions(t); len(keys) != 0 {
		t.Errorf("sessions were left: %v", keys)
	}
	if err := session.Close(ctx); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if _, err := methods.GetCurrentTime(t.Context(), session); !errors.Is(err, errClosed) {
		t.Errorf("a call after Close: %v, want %v", err, errClosed)
	}
	if keys := s.sessions(t); len(keys) != 0 {
		t.Errorf("a call after Close logged in: %v", keys)
	}
}

func TestALogInWhoseCallerGoesIsNotLeftBehind(t *testing.T) {
	s := newSite(t, simulator.ESX())
	ctx, cancel := context.WithCancel(t.Context())
	s.spoil = func(method string, _ http.ResponseWriter) bool {
		if method == "Login" {
			cancel()
			time.Sleep(50 * time.Millisecond)
		}
		return false
	}
	_, err := Connect(ctx, s.config())
	wantError(t, err, context.Canceled)
	s.Close() // all that was asked for is answered then
	if n, keys := s.count("Login"), s.sessions(t); n != 1 || len(keys) != 0 {
		t.Errorf("of %d log-ins there are sessions left: %v", n, keys)
	}
}
