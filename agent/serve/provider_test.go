package serve

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
)

// operation is a provider of another make, a certified one, with a page to log in at. Its
// token says who somebody is and nothing more: the rest is told to whoever asks, of the
// scopes that were asked for.
func operation(t *testing.T, folder, client, secret, redirect string) (issuer, ca string) {
	t.Helper()
	var handler http.Handler
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	s.StartTLS()
	t.Cleanup(s.Close)
	storage.RegisterClients(storage.WebClient(client, secret, redirect))
	handler = exampleop.SetupServer(s.URL, storage.NewStorage(storage.NewUserStore(s.URL)), nil, false)
	ca = filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.URL, ca
}

// browser goes where it is sent, with its cookies. It knows the appliance by a name.
func browser(t *testing.T, appliance string) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	way := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	way.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "appliance.example:443" {
			address = appliance
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return &http.Client{Jar: jar, Transport: way}
}

func page(t *testing.T, reply *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(reply.Body)
	if err := errors.Join(err, reply.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(text)
}

var (
	hidden = regexp.MustCompile(`<input type="hidden" name="id" value="([^"]*)"`)
	action = regexp.MustCompile(`action="([^"]*)"`)
)

// TestPeopleLogInAtAProviderOfAnotherMake: a browser is sent to its page, and comes back
// with a session.
func TestPeopleLogInAtAProviderOfAnotherMake(t *testing.T) {
	const client, redirect = "h2k", "https://appliance.example" + config.LoginCallback
	for name, c := range map[string]struct {
		scopes string
		status int
	}{
		"with all that is wanted": {"scopes: [email, custom_scope], nameClaim: email, ", 200},
		"without the scope":       {"", 403}, // that the groups are told with
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			issuer, ca := operation(t, folder, client, "plum-plates-play", redirect)
			a := started(t, folder, fmt.Sprintf("oidc: {issuer: '%s', ca: %s, clientID: %s, secret: at-provider, redirect: '%s', %sclaim: custom_claim.client, roles: {%s: operator}}\n", issuer, ca, client, redirect, c.scopes, client))
			if status, text := a.send(t, "PUT", "/secrets/at-provider", `{"value":"plum-plates-play"}`); status >= 300 {
				t.Fatalf("%d %s", status, text)
			}
			b := browser(t, a.address(t))
			reply, err := b.Get("https://appliance.example/login")
			status, form := page(t, reply, err)
			id, to := hidden.FindStringSubmatch(form), action.FindStringSubmatch(form)
			if status != 200 || id == nil || to == nil {
				t.Fatalf("the provider's page: %d %s", status, form)
			}
			there, err := reply.Request.URL.Parse(to[1])
			if err != nil {
				t.Fatal(err)
			}
			reply, err = b.PostForm(there.String(), url.Values{"id": {id[1]}, "username": {"test-user@127.0.0.1"}, "password": {"verysecure"}})
			if status, text := page(t, reply, err); status != c.status || reply.Request.URL.Path != config.LoginCallback {
				t.Fatalf("back at %s, it is answered with %d %s", reply.Request.URL, status, text)
			}
			reply, err = b.Get("https://appliance.example/api/v1/session")
			status, text := page(t, reply, err)
			var s model.Session
			if c.status != 200 {
				if status != 401 {
					t.Errorf("who has no role is %s", text)
				}
				return
			}
			if err := json.Unmarshal([]byte(text), &s); err != nil || s.Name != "oidc:test-user@zitadel.ch" || s.Role != "operator" {
				t.Errorf("there is the session %s, %v", text, err)
			}
		})
	}
}

// TestAProvidersAuthoritiesHaveToBeThere in the file that the settings name.
func TestAProvidersAuthoritiesHaveToBeThere(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{empty: "holds no certificate", empty + ".none": "no such file"} {
		if _, err := reaching(file); !errors.Is(err, config.ErrSettings) || !strings.Contains(err.Error(), "oidc.ca: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
