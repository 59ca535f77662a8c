package fleet_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/fleet/fleettest"
	"hyper2kvm/fixers/guest"
)

func founded(t *testing.T) *fleettest.Fleet {
	t.Helper()
	return fleettest.New(t, t.TempDir(), "hub")
}

func TestATokenLetsOneApplianceIn(t *testing.T) {
	f := founded(t)
	state, token := t.TempDir(), f.Token(t, fleet.Worker)
	m, err := fleet.Join(t.Context(), state, "a2", "kvm2", fleettest.Sealer(t, state), token)
	if err != nil {
		t.Fatal(err)
	}
	if m.ID() != "a2" || m.Role() != fleet.Worker || m.Hubs()[0] != "192.0.2.1:4222" || time.Until(m.Expires()) < 29*24*time.Hour || time.Until(m.Expires()) > 30*24*time.Hour {
		t.Errorf("it is %s, %s, of %v, until %v", m.ID(), m.Role(), m.Hubs(), m.Expires())
	}
	if text := accepted(t, f.Member.TLS(), m.TLS()); text != "" {
		t.Errorf("the hub refuses it: %s", text)
	}
	if list, err := f.Invitations(t.Context()); err != nil || len(list) != 1 || list[0].Joined != "a2" || list[0].By != "ops" || list[0].Used.IsZero() {
		t.Errorf("the invitation is %+v, %v", list, err)
	}
	private(t, state)
	private(t, f.State)
}

// private holds the files of a fleet to be of nobody else's, and its keys to be sealed.
func private(t *testing.T, state string) {
	t.Helper()
	files, err := os.ReadDir(fleet.Folder(state))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range files {
		info, err := e.Info()
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v, %v", e.Name(), info.Mode(), err)
		}
		text, err := os.ReadFile(filepath.Join(fleet.Folder(state), e.Name()))
		if err != nil || strings.Contains(string(text), "PRIVATE KEY") {
			t.Errorf("%s shows a key, %v", e.Name(), err)
		}
	}
}

func TestWhoJoinsOpensTheFleetsSecrets(t *testing.T) {
	f := founded(t)
	state := t.TempDir()
	own := fleettest.Sealer(t, state)
	before := own.Seal("luks", []byte("mine"))
	m := f.Joined(t, state, "a2", fleet.Worker)
	sealer, err := m.Sealer()
	if err != nil {
		t.Fatal(err)
	}
	hub, err := f.Member.Sealer()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := sealer.Open("luks", hub.Seal("luks", []byte("sesame"))); err != nil || string(text) != "sesame" {
		t.Errorf("of the hub: %v", err)
	}
	if _, err := hub.Open("luks", sealer.Seal("luks", []byte("sesame"))); err != nil {
		t.Errorf("by the hub: %v", err)
	}
	if text, err := sealer.Open("luks", before); err != nil || string(text) != "mine" {
		t.Errorf("of its own: %v", err)
	}
}

// refused joins with a token, and wants that refused with words.
func refused(t *testing.T, id string, token guest.Secret, words string) {
	t.Helper()
	state := t.TempDir()
	_, err := fleet.Join(t.Context(), state, id, "", fleettest.Sealer(t, state), token)
	if !errors.Is(err, fleet.ErrToken) || !strings.Contains(err.Error(), words) {
		t.Errorf("refused with %v, want %q", err, words)
	}
	if _, err := fleet.Open(state, fleettest.Sealer(t, state)); !errors.Is(err, fleet.ErrAlone) {
		t.Errorf("and it is a member: %v", err)
	}
}

func TestATokenIsUsedOnce(t *testing.T) {
	f := founded(t)
	token := f.Token(t, fleet.Worker)
	var joined sync.Map
	var all sync.WaitGroup
	for _, id := range []string{"a2", "a3", "a4", "a5"} { // at once
		state := t.TempDir()
		sealer := fleettest.Sealer(t, state)
		all.Go(func() {
			if _, err := fleet.Join(context.Background(), state, id, "", sealer, token); err == nil {
				joined.Store(id, true)
			} else if !errors.Is(err, fleet.ErrToken) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n := 0
	joined.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d joined with one token", n)
	}
	refused(t, "a6", token, "it was used at ")
}

func TestATokenThatDoesNotCountIsRefused(t *testing.T) {
	f, other := founded(t), founded(t)
	later := time.Now()
	f.Now = func() time.Time { return later }
	late := f.Token(t, fleet.Worker)
	later = later.Add(fleet.DefaultInvitation)
	refused(t, "a2", late, "it ran out at ")

	elsewhere := other.Token(t, fleet.Worker)
	strange, _, err := other.Invite(t.Context(), fleettest.Admin, fleet.NewInvitation{Addresses: f.Addresses}) // test servers have one certificate
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "a2", strange, "it is not known here: it was withdrawn, or is of another fleet")
	refused(t, "a2", elsewhere[:len(elsewhere)-7], "it is damaged: copy it whole")
	refused(t, "a2", guest.Secret("sesame"), "it begins with h2kjoin_")

	token, i, err := f.Invite(t.Context(), fleettest.Admin, fleet.NewInvitation{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Withdraw(t.Context(), fleettest.Admin, i.ID); err != nil {
		t.Fatal(err)
	}
	refused(t, "a2", token, "it was withdrawn")
}

func TestASecretThatIsAnotherIsRefused(t *testing.T) {
	f := founded(t)
	token := f.Token(t, fleet.Worker)
	coding := base64.RawURLEncoding
	data, err := coding.DecodeString(strings.TrimPrefix(string(token), "h2kjoin_"))
	if err != nil {
		t.Fatal(err)
	}
	data[7] ^= 1
	refused(t, "a2", guest.Secret("h2kjoin_"+coding.EncodeToString(data)), "it is not known here")
	if _, err := fleet.Join(t.Context(), t.TempDir(), "a2", "", fleettest.Sealer(t, t.TempDir()), token); err != nil {
		t.Errorf("and the token is used up: %v", err)
	}
}

func TestTheCertificateOfTheHubIsTheOneThatTheTokenNames(t *testing.T) {
	f := founded(t)
	f.Print = make([]byte, 32)
	refused(t, "a2", f.Token(t, fleet.Worker), "shows another certificate than the token names")
	if list, err := f.Invitations(t.Context()); err != nil || !list[0].Used.IsZero() {
		t.Errorf("the secret was shown to whoever answered: %+v, %v", list, err)
	}
}

func TestACopyOfAnApplianceIsNotLetIn(t *testing.T) {
	f := founded(t)
	refused(t, "hub", f.Token(t, fleet.Worker), "if the new one is a copy of its disk")
	f.Joined(t, t.TempDir(), "a2", fleet.Worker)
	f.Works("a2")
	token := f.Token(t, fleet.Worker)
	refused(t, "a2", token, "if the new one is a copy of its disk")
	if list, err := f.Invitations(t.Context()); err != nil || !list[0].Used.IsZero() && !list[1].Used.IsZero() {
		t.Errorf("its token is used up: %+v, %v", list, err)
	}
}

func TestAWorkerLetsNobodyIn(t *testing.T) {
	f := founded(t)
	state := t.TempDir()
	r := fleet.Registry{State: state, ID: "a2", Member: f.Joined(t, state, "a2", fleet.Worker), Sealer: fleettest.Sealer(t, state), Store: f.Store, Audit: f.Audit, Addresses: f.Addresses, Print: f.Print, Alive: f.Alive, Cut: f.Cut}
	if _, _, err := r.Invite(t.Context(), fleettest.Admin, fleet.NewInvitation{}); !errors.Is(err, fleet.ErrWorker) {
		t.Errorf("Invite = %v", err)
	}
	if err := r.Remove(t.Context(), fleettest.Admin, "hub"); !errors.Is(err, fleet.ErrWorker) {
		t.Errorf("Remove = %v", err)
	}
}

func TestOneThatVotesCanLetOthersIn(t *testing.T) {
	f := founded(t)
	state := t.TempDir()
	f.Member = f.Joined(t, state, "a2", fleet.Voting)
	f.State, f.ID = state, "a2"
	m := f.Joined(t, t.TempDir(), "a3", fleet.Worker)
	if text := accepted(t, f.Member.TLS(), m.TLS()); text != "" {
		t.Errorf("it is refused: %s", text)
	}
}

// accepted tells with what a client of a listener is refused; "" if it is not.
func accepted(t *testing.T, serves, asks *tls.Config) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", serves)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(conn, "!") // the client tells
			_ = conn.Close()
		}
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	asks = asks.Clone()
	if asks.ServerName == "" {
		asks.ServerName = "x"
	}
	client := tls.Client(conn, asks)
	if _, err := io.ReadAll(client); err != nil {
		return fleet.Explain(err).Error()
	}
	if client.ConnectionState().Version != tls.VersionTLS13 {
		t.Error("it is not TLS 1.3")
	}
	return ""
}

// forged is a certificate that somebody has signed in their own way.
func forged(t *testing.T, change func(*x509.Certificate)) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a2"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	own := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }}
}

func TestOnlyMembersAreLetIn(t *testing.T) {
	f, other := founded(t), founded(t)
	state := t.TempDir()
	member := f.Joined(t, state, "a2", fleet.Worker)
	stranger := other.Joined(t, t.TempDir(), "a2", fleet.Worker).TLS()
	stranger.InsecureSkipVerify, stranger.VerifyConnection = true, nil
	f.Now = func() time.Time { return time.Now().Add(-31 * 24 * time.Hour) }
	old := f.Joined(t, t.TempDir(), "a3", fleet.Worker).TLS()
	f.Now = nil
	for name, c := range map[string]struct {
		client *tls.Config
		words  string
	}{
		"without a certificate": {&tls.Config{InsecureSkipVerify: true}, "it shows no certificate"},
		"of another authority":  {stranger, "its certificate is of another fleet"},
		"made by itself":        {forged(t, func(*x509.Certificate) {}), "its certificate is of another fleet"},
		"that has run out":      {old, "its certificate has run out"},
		"of an older TLS":       {&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, "protocol version not supported"},
		"of the fleet":          {member.TLS(), ""},
	} {
		if text := accepted(t, f.Member.TLS(), c.client); !strings.Contains(text, c.words) || c.words == "" && text != "" {
			t.Errorf("%s: refused with %q, want %q", name, text, c.words)
		}
	}
	if text := accepted(t, f.Member.Peers(), member.TLS()); !strings.Contains(text, "its role is another") {
		t.Errorf("a worker votes: %q", text)
	}
	if text := accepted(t, member.TLS(), member.TLS()); !strings.Contains(text, "who answers is an appliance that does not vote") && !strings.Contains(text, "incompatible key usage") {
		t.Errorf("a worker stands in for a hub: %q", text)
	}
}

func TestOneThatWasRemovedIsRefusedAtOnce(t *testing.T) {
	f := founded(t)
	state := t.TempDir()
	m := f.Joined(t, state, "a2", fleet.Worker)
	var cut []string
	f.Cut = func(ids ...string) { cut = append(cut, ids...) }
	if err := f.Remove(t.Context(), fleettest.Admin, "a2"); err != nil {
		t.Fatal(err)
	}
	if text := accepted(t, f.Member.TLS(), m.TLS()); !strings.Contains(text, "it was removed from the fleet") {
		t.Errorf("removed, it is refused with %q", text)
	}
	if len(cut) != 1 || cut[0] != "a2" {
		t.Errorf("cut off are %v", cut)
	}
	again, err := fleet.Open(f.State, fleettest.Sealer(t, f.State)) // before the store answers
	if err != nil {
		t.Fatal(err)
	}
	if text := accepted(t, again.TLS(), m.TLS()); !strings.Contains(text, "it was removed from the fleet") {
		t.Errorf("after a restart it is refused with %q", text)
	}
	if err := m.Refresh(t.Context(), ask(f)); err == nil || !strings.Contains(err.Error(), "a2 was removed") {
		t.Errorf("its certificate is renewed: %v", err)
	}
	if err := f.Remove(t.Context(), fleettest.Admin, "a2"); !errors.Is(err, fleet.ErrUnknown) {
		t.Errorf("removed again: %v", err)
	}
	m = f.Joined(t, state, "a2", fleet.Worker) // it is wanted back
	if text := accepted(t, f.Member.TLS(), m.TLS()); text != "" {
		t.Errorf("joined again, it is refused with %q", text)
	}
	cut = nil
	if err := f.Follow(t.Context()); err != nil || len(cut) > 0 {
		t.Errorf("joined again, it is cut off: %v, %v", cut, err)
	}
}

func TestAnotherThatVotesHearsOfARemoval(t *testing.T) {
	f := founded(t)
	state := t.TempDir()
	second := &fleet.Registry{State: state, ID: "a2", Member: f.Joined(t, state, "a2", fleet.Voting), Store: f.Store, Audit: f.Audit, Alive: f.Alive, Cut: func(...string) {}}
	m := f.Joined(t, t.TempDir(), "a3", fleet.Worker)
	if err := f.Remove(t.Context(), fleettest.Admin, "a3"); err != nil {
		t.Fatal(err)
	}
	if text := accepted(t, second.Member.TLS(), m.TLS()); text != "" {
		t.Errorf("before it hears of it: %q", text)
	}
	if err := second.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := accepted(t, second.Member.TLS(), m.TLS()); !strings.Contains(text, "it was removed from the fleet") {
		t.Errorf("it is refused with %q", text)
	}
}

func TestOneThatVotesAndWorksIsNotRemoved(t *testing.T) {
	f := founded(t)
	f.Joined(t, t.TempDir(), "a2", fleet.Voting)
	f.Works("a2")
	if err := f.Remove(t.Context(), fleettest.Admin, "a2"); !errors.Is(err, fleet.ErrThere) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("Remove = %v", err)
	}
	if err := f.Remove(t.Context(), fleettest.Admin, "hub"); !errors.Is(err, fleet.ErrInput) {
		t.Errorf("removing itself: %v", err)
	}
}

// ask is how a member asks the fleet's first appliance.
func ask(f *fleettest.Fleet) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, text []byte) ([]byte, error) { return f.Renew(ctx, text), nil }
}

func TestACertificateIsRenewedBeforeItRunsOut(t *testing.T) {
	f := founded(t)
	state := t.TempDir()
	f.Now = func() time.Time { return time.Now().Add(-9 * 24 * time.Hour) }
	m := f.Joined(t, state, "a2", fleet.Worker)
	if m.Due() {
		t.Error("it is renewed after 9 days")
	}
	f.Now = func() time.Time { return time.Now().Add(-11 * 24 * time.Hour) }
	if m = f.Joined(t, state, "a2", fleet.Worker); !m.Due() {
		t.Error("it is not renewed after 11 days")
	}
	f.Now = nil
	shown := m.TLS() // a connection's configuration outlives the certificate
	if err := m.Refresh(t.Context(), ask(f)); err != nil || m.Due() || time.Until(m.Expires()) < 29*24*time.Hour {
		t.Errorf("renewed, it lasts until %v: %v", m.Expires(), err)
	}
	if text := accepted(t, f.Member.TLS(), shown); text != "" {
		t.Errorf("renewed, it is refused: %s", text)
	}
	if again, err := fleet.Open(state, fleettest.Sealer(t, state)); err != nil || !again.Expires().Equal(m.Expires()) {
		t.Errorf("the renewed one is not kept: %v", err)
	}
	if err := f.Member.Refresh(t.Context(), nil); err != nil {
		t.Errorf("the hub's own: %v", err)
	}
}

func TestOnlyOnesOwnCertificateIsRenewed(t *testing.T) {
	f, other := founded(t), founded(t)
	for name, text := range map[string]string{"nothing": "", "no request": `{"certificate":"x"}`} {
		if said := string(f.Renew(t.Context(), []byte(text))); !strings.Contains(said, `"refused"`) {
			t.Errorf("%s: %s", name, said)
		}
	}
	stranger := other.Joined(t, t.TempDir(), "a2", fleet.Worker)
	if err := stranger.Refresh(t.Context(), ask(f)); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("one of another fleet: %v", err)
	}
	former := f.Joined(t, t.TempDir(), "a4", fleet.Worker)
	f.Joined(t, t.TempDir(), "a4", fleet.Worker)
	if err := former.Refresh(t.Context(), ask(f)); err == nil || !strings.Contains(err.Error(), "a4 was removed") {
		t.Errorf("one that has joined anew since: %v", err)
	}
	f.Now = func() time.Time { return time.Now().Add(-31 * 24 * time.Hour) }
	late := f.Joined(t, t.TempDir(), "a3", fleet.Worker)
	f.Now = nil
	if err := late.Refresh(t.Context(), ask(f)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("one that has run out: %v", err)
	}
}

func TestAllIsAudited(t *testing.T) {
	f := founded(t)
	token := f.Token(t, fleet.Worker)
	f.Joined(t, t.TempDir(), "a2", fleet.Worker)
	refused(t, "hub", token, "")
	if err := f.Remove(t.Context(), fleettest.Admin, "a2"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range f.Audit.Entries() {
		if strings.Contains(e.Detail, "h2kjoin_") {
			t.Errorf("the token is in %+v", e)
		}
		got = append(got, e.Action+" "+string(e.Outcome))
	}
	want := []string{"fleet.invite " + string(auth.Done), "fleet.invite done", "fleet.join done", "fleet.join refused", "fleet.remove done"}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("audited are %v, want %v", got, want)
	}
}

func TestWhatOthersCanReadIsNotUsed(t *testing.T) {
	f := founded(t)
	if err := os.Chmod(filepath.Join(fleet.Folder(f.State), "member.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Open(f.State, fleettest.Sealer(t, f.State)); err == nil || !strings.Contains(err.Error(), "chmod it to 0600") {
		t.Errorf("Open = %v", err)
	}
}

func TestWhatCannotBeInvitedIsRefused(t *testing.T) {
	f := founded(t)
	for words, n := range map[string]fleet.NewInvitation{
		"7 days at most":   {Life: 8 * 24 * time.Hour},
		"is no address":    {Addresses: []string{"hub"}},
		"worker or voting": {Role: "hub"},
	} {
		if _, _, err := f.Invite(t.Context(), fleettest.Admin, n); !errors.Is(err, fleet.ErrInput) || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v: %v, want %q", n, err, words)
		}
	}
	f.Addresses = nil
	if _, _, err := f.Invite(t.Context(), fleettest.Admin, fleet.NewInvitation{}); err == nil || !strings.Contains(err.Error(), "no HTTPS listener") {
		t.Errorf("without a listener: %v", err)
	}
}
