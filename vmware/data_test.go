package vmware

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
)

func TestDataGoesWithTheSessionsTrust(t *testing.T) {
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	client := session.HTTPClient()
	get := func(client *http.Client, url string) error {
		response, err := client.Get(url)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		return err
	}
	if err := get(client, session.URL().String()+"/about"); err != nil {
		t.Error(err)
	}
	other, certificate := listen(t, nil, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	wantError(t, get(client, "https://"+other), ErrConnect, "this client reaches")
	wantError(t, get(client, "http"+strings.TrimPrefix(session.URL().String(), "https")), ErrConnect, "this client reaches")

	esx, err := session.ClientFor(other, strings.ToLower(sha1Of(certificate)))
	if err != nil {
		t.Fatal(err)
	}
	if err := get(esx, "https://"+other); err != nil {
		t.Error(err)
	}
	wrong, err := session.ClientFor(other, strings.Repeat("0", 40))
	if err != nil {
		t.Fatal(err)
	}
	if err := get(wrong, "https://"+other); err == nil || !strings.Contains(err.Error(), sha1Of(certificate)) {
		t.Errorf("with a wrong thumbprint: %v", err)
	}
	none, err := session.ClientFor(other, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := get(none, "https://"+other); err == nil || !strings.Contains(err.Error(), "no authority") {
		t.Errorf("without a thumbprint: %v", err)
	}
	if _, err := session.ClientFor(other, "short"); err == nil {
		t.Error("a thumbprint that is none was accepted")
	}
}

func TestAHostOfUnknownNameIsReachedForItsData(t *testing.T) {
	address, certificate := listen(t, nil, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	s := newSite(t, simulator.VPX())
	c := s.config()
	c.Resolve = map[string]string{"esx1..unknown": address}
	session, err := Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(t.Context())
	client, err := session.ClientFor("esx1..unknown", sha256Of(certificate))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get("https://ESX1..unknown/nfc/1/disk-0.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if host, _ := io.ReadAll(response.Body); string(host) != "ESX1..unknown" {
		t.Errorf("the host was asked for %q", host)
	}
}

func TestACookieThatWasRefusedIsRenewed(t *testing.T) {
	s := newSite(t, simulator.VPX())
	session := s.connect(t)
	first, err := session.Cookie(t.Context(), "")
	if err != nil || !strings.HasPrefix(first, "vmware_soap_session=") || !strings.Contains(first, s.sessions(t)[0]) {
		t.Fatalf("Cookie() = %q, %v", first, err)
	}
	s.endSessions(t)
	second, err := session.Cookie(t.Context(), first)
	if err != nil || second == first || !strings.Contains(second, s.sessions(t)[0]) {
		t.Fatalf("Cookie(refused) = %q, %v", second, err)
	}
	if late, err := session.Cookie(t.Context(), first); err != nil || late != second {
		t.Errorf("Cookie(one that was refused long ago) = %q, %v", late, err)
	}
	_, err = session.Cookie(t.Context(), second)
	wantError(t, err, ErrPrivilege, "alive", "Datastore.Browse")
	if n := s.count("Login"); n != 2 {
		t.Errorf("it logged in %d times", n)
	}
}
