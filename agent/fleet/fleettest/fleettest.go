// Package fleettest founds fleets for tests, and lets appliances in the way an agent
// does: by a token, over HTTPS.
package fleettest

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/auth/authtest"
	"hyper2kvm/agent/fleet"
	"hyper2kvm/agent/seal"
	"hyper2kvm/fixers/guest"
)

// Fleet is one whose first appliance is there.
type Fleet struct {
	*fleet.Registry
	Audit  *authtest.Audit
	Server *httptest.Server

	mu    sync.Mutex
	alive map[string]bool
}

// New founds a fleet with the appliance whose state is in a folder.
func New(t *testing.T, state, id string) *Fleet {
	t.Helper()
	f := &Fleet{Audit: &authtest.Audit{}, alive: map[string]bool{}}
	f.Server = httptest.NewTLSServer(http.HandlerFunc(f.join))
	t.Cleanup(f.Server.Close)
	print := sha256.Sum256(f.Server.Certificate().Raw)
	m, err := fleet.Found(state, id, Sealer(t, state))
	if err != nil {
		t.Fatal(err)
	}
	f.Registry = &fleet.Registry{State: state, ID: id, Sealer: Sealer(t, state), Store: &authtest.Memory{}, Audit: f.Audit, Member: m,
		Addresses: []string{strings.TrimPrefix(f.Server.URL, "https://")}, Print: print[:], Hubs: []string{"192.0.2.1:4222"},
		Alive: f.isAlive, Cut: func(...string) {}}
	return f
}

// Sealer is that of a state folder.
func Sealer(t *testing.T, state string) *seal.Sealer {
	t.Helper()
	s, err := seal.Load(filepath.Join(state, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Works notes that an appliance is heard of.
func (f *Fleet) Works(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alive[id] = true
}

func (f *Fleet) isAlive(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alive[id]
}

// join answers as the API does.
func (f *Fleet) join(w http.ResponseWriter, r *http.Request) {
	var asked model.JoinRequest
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.URL.Path != "/api/v1/appliances/join" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	got, err := f.Admit(r.Context(), "192.0.2.9", fleet.Asking{Invitation: asked.Invitation, Secret: asked.Secret, Name: asked.Name, Request: asked.Request})
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(model.Problem{Code: "bad-token", Detail: err.Error()})
		return
	}
	_ = json.NewEncoder(w).Encode(model.Joined{Role: model.FleetRole(got.Role), Certificate: got.Certificate, Authority: got.Authority, AuthorityKey: got.AuthorityKey, Shared: got.Shared, Hubs: got.Hubs})
}

// Admin is who invites.
var Admin = auth.Local("ops", auth.Admin)

// Token is a new one.
func (f *Fleet) Token(t *testing.T, role fleet.Role) guest.Secret {
	t.Helper()
	token, _, err := f.Invite(t.Context(), Admin, fleet.NewInvitation{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Joined has the appliance join whose state is in a folder.
func (f *Fleet) Joined(t *testing.T, state, id string, role fleet.Role) *fleet.Member {
	t.Helper()
	return f.JoinedWith(t, state, id, f.Token(t, role))
}

// JoinedWith has it join with a token.
func (f *Fleet) JoinedWith(t *testing.T, state, id string, token guest.Secret) *fleet.Member {
	t.Helper()
	m, err := fleet.Join(t.Context(), state, id, "", Sealer(t, state), token)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
