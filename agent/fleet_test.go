package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// fleetSays runs hyper2kvm fleet, and returns what it ends with and says.
func fleetSays(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	status = run(t.Context(), append([]string{"fleet"}, args...), &out, &said)
	return status, out.String(), said.String()
}

func TestFleetInvitesListsAndWithdraws(t *testing.T) {
	socket := "unix:" + served(t)
	if status, _, said := fleetSays(t, "invite", "--appliance", socket); status != exitBadInput || !strings.Contains(said, "has no HTTPS listener") {
		t.Errorf("without a listener it ends with %d, %q", status, said)
	}
	status, token, said := fleetSays(t, "invite", "--appliance", socket, "--address", "192.0.2.1:8443", "--within", "1h")
	if status != exitOK || !regexp.MustCompile(`^h2kjoin_[A-Za-z0-9_-]{100,}\n$`).MatchString(token) || !strings.Contains(said, "for one appliance (worker), until ") {
		t.Fatalf("invite ends with %d, %q, %q", status, token, said)
	}
	status, list, _ := fleetSays(t, "invitations", "--appliance", socket)
	m := regexp.MustCompile(`(?m)^([a-z2-7]{20})  worker  uid-\d+  open until `).FindStringSubmatch(list)
	if status != exitOK || m == nil {
		t.Fatalf("invitations ends with %d, %q", status, list)
	}
	if status, _, said := fleetSays(t, "withdraw", "--appliance", socket, m[1]); status != exitOK {
		t.Errorf("withdraw ends with %d, %q", status, said)
	}
	if _, list, _ := fleetSays(t, "invitations", "--appliance", socket); strings.Contains(list, m[1]) {
		t.Errorf("withdrawn, there is %q", list)
	}
	if status, list, _ := fleetSays(t, "list", "--appliance", socket); status != exitOK || !regexp.MustCompile(`(?m)^[a-z2-7]{12}  \S+ +\S+ +yes +0 of `).MatchString(list) {
		t.Errorf("list ends with %d, %q", status, list)
	}
	if status, _, said := fleetSays(t, "remove", "--appliance", socket, "nobody"); status != exitBadInput || !strings.Contains(said, "no such appliance in the fleet: nobody") {
		t.Errorf("remove ends with %d, %q", status, said)
	}
}

func TestFleetJoinSaysWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	settings := filepath.Join(folder, "agent.yaml")
	if err := os.WriteFile(settings, []byte("state: "+folder+"/state\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for words, args := range map[string][]string{
		"join takes one TOKEN, not 0":  {"join"},
		"it begins with h2kjoin_":      {"join", "sesame", "--config", settings},
		"run it on the appliance that": {"join", "x", "--appliance", "unix:/none"},
	} {
		if status, _, said := fleetSays(t, args...); status == exitOK || !strings.Contains(said, words) {
			t.Errorf("%v ends with %d, %q, want %q", args, status, said, words)
		}
	}
}
