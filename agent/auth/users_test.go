package auth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/agent/auth"
)

func TestUsersAreListedWithoutTheirHashes(t *testing.T) {
	h := newHouse(t)
	h.user("zoe", auth.Viewer)
	h.user("ops", auth.Admin)
	now := h.clock.Now()
	want := []auth.User{{Name: "ops", Role: auth.Admin, Created: now, Password: now}, {Name: "zoe", Role: auth.Viewer, Created: now, Password: now}}
	got, err := h.Users(t.Context(), h.login("ops").Principal)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got, err = h.Users(t.Context(), h.login("zoe").Principal)
	must(t, err)
	if diff := cmp.Diff(want[1:], got); diff != "" {
		t.Errorf("a viewer sees: %s", diff)
	}
}

// changes are all that only admins may do.
func changes(h *house, by auth.Principal) map[string]error {
	ctx := h.t.Context()
	_, list := h.Certificates(ctx, by)
	return map[string]error{
		"CreateUser":        h.CreateUser(ctx, by, "eve", auth.Admin, password("eve")),
		"SetPassword":       h.SetPassword(ctx, by, "victim", password("eve")),
		"SetRole":           h.SetRole(ctx, by, "victim", auth.Admin),
		"DisableUser":       h.DisableUser(ctx, by, "victim"),
		"EnableUser":        h.EnableUser(ctx, by, "victim"),
		"EndSessions":       h.EndSessions(ctx, by, "victim"),
		"RemoveUser":        h.RemoveUser(ctx, by, "victim"),
		"AddCertificate":    h.AddCertificate(ctx, by, auth.Certificate{Name: "eve", Fingerprint: fingerprint("e"), Role: auth.Viewer}),
		"RemoveCertificate": h.RemoveCertificate(ctx, by, fingerprint("c")),
		"Certificates":      list,
	}
}

func TestOnlyAdminsChangeWhoHasAccess(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	h.user("victim", auth.Viewer)
	must(t, h.AddCertificate(t.Context(), root, auth.Certificate{Name: "c", Fingerprint: fingerprint("c"), Role: auth.Admin}))
	h.user("op", auth.Operator)
	plain, _, err := h.CreateToken(t.Context(), h.login("ops").Principal, auth.NewToken{Name: "no scopes", Role: auth.Admin})
	must(t, err)
	token, err := h.Token(t.Context(), here, string(plain))
	must(t, err)
	before := h.kept()
	for _, by := range []auth.Principal{{}, {Name: "ops", Role: auth.Admin, By: auth.BySession}, h.login("op").Principal, h.login("victim").Principal, auth.Local("nobody", auth.Operator), token} {
		for what, err := range changes(h, by) {
			if by.By == auth.ByToken && what == "Certificates" {
				continue // reading is in what it may
			}
			wants(t, fmt.Sprintf("%s by %s %q", what, by.By, by.Name), err, auth.ErrForbidden)
			if e := h.last(); what != "Certificates" && (e.Outcome == auth.Done || e.Principal.Name == "" && by.Name != "") {
				t.Errorf("%s was recorded as %+v", what, e)
			}
		}
	}
	if after := h.kept(); len(after) < len(before) {
		t.Error("something is gone")
	}
	users, err := h.Users(t.Context(), root)
	if err != nil || len(users) != 3 {
		t.Errorf("the users are %+v, %v", users, err)
	}
	for what, err := range changes(h, root) {
		if err != nil && !errors.Is(err, auth.ErrNotFound) { // the map is in any order
			t.Errorf("%s by an admin: %v", what, err)
		}
	}
}

func TestWhatIsNotThereOrIsThereIsSaid(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	ctx := t.Context()
	wants(t, "a second ops", h.CreateUser(ctx, root, "ops", auth.Viewer, password("ops")), auth.ErrExists)
	wants(t, "nobody's role", h.SetRole(ctx, root, "nobody", auth.Viewer), auth.ErrNotFound)
	wants(t, "nobody's removal", h.RemoveUser(ctx, root, "nobody"), auth.ErrNotFound)
	wants(t, "nobody's password", h.SetPassword(ctx, root, "nobody", password("x")), auth.ErrNotFound)
	wants(t, "no role", h.SetRole(ctx, root, "ops", auth.Nobody), auth.ErrInput)
	wants(t, "too high a role", h.CreateUser(ctx, root, "x", auth.Admin+1, password("x")), auth.ErrInput)
	for _, name := range []string{"", "Ops", "a b", "1st", "a/b", "a\n", "é"} {
		wants(t, fmt.Sprintf("the name %q", name), h.CreateUser(ctx, root, name, auth.Viewer, password("x")), auth.ErrInput)
	}
}

func TestRoleAndRemovalHoldAtOnceInSessions(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	h.user("marta", auth.Operator)
	s := h.login("marta")
	must(t, h.SetRole(t.Context(), root, "marta", auth.Viewer))
	h.is(s, "marta", auth.Viewer)
	wants(t, "Recheck with less of a role", h.Recheck(t.Context(), s.Principal), auth.ErrUnauthenticated)
	must(t, h.DisableUser(t.Context(), root, "marta"))
	h.ended(s)
	must(t, h.EnableUser(t.Context(), root, "marta"))
	h.ended(s)
	s = h.login("marta")
	must(t, h.EndSessions(t.Context(), root, "marta"))
	h.ended(s)
	s = h.login("marta")
	must(t, h.RemoveUser(t.Context(), root, "marta"))
	h.ended(s)
	h.user("marta", auth.Admin)
	h.ended(s)
}

func TestTheLastAdminStays(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	h.user("two", auth.Admin)
	ctx := t.Context()
	must(t, h.DisableUser(ctx, root, "two"))
	wants(t, "removal", h.RemoveUser(ctx, root, "ops"), auth.ErrLastAdmin)
	wants(t, "demotion", h.SetRole(ctx, root, "ops", auth.Operator), auth.ErrLastAdmin)
	wants(t, "disabling", h.DisableUser(ctx, root, "ops"), auth.ErrLastAdmin)
	must(t, h.EnableUser(ctx, root, "two"))
	must(t, h.RemoveUser(ctx, root, "ops"))
}

func TestTwoAdminsWhoRemoveEachOtherLeaveOne(t *testing.T) {
	for range 20 {
		h := newHouse(t)
		h.user("one", auth.Admin)
		h.user("two", auth.Admin)
		other := h.annex()
		one, two := h.login("one").Principal, other.login("two").Principal
		var both sync.WaitGroup
		both.Go(func() { _ = h.RemoveUser(t.Context(), one, "two") })
		both.Go(func() { _ = other.SetRole(t.Context(), two, "one", auth.Viewer) })
		both.Wait()
		users, err := h.Users(t.Context(), root)
		must(t, err)
		admins := 0
		for _, u := range users {
			if u.Role == auth.Admin && !u.Disabled {
				admins++
			}
		}
		if admins != 1 {
			t.Fatalf("there are %d admins: %+v", admins, users)
		}
	}
}

func TestNoChangeOfManyAppliancesIsLost(t *testing.T) {
	h := newHouse(t)
	var all sync.WaitGroup
	for i := range 10 {
		other := h.annex()
		all.Go(func() {
			for j := range 5 {
				if err := other.CreateUser(t.Context(), root, fmt.Sprintf("u%d-%d", i, j), auth.Viewer, password("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if users, err := h.Users(t.Context(), root); err != nil || len(users) != 50 {
		t.Errorf("there are %d users, %v", len(users), err)
	}
}

func TestUsersAreBounded(t *testing.T) {
	h := newHouse(t)
	h.user("one", auth.Viewer)
	value, revision, err := h.store.Read(t.Context(), "access")
	must(t, err)
	var record struct {
		Format int `json:"format"`
		Data   struct {
			Users map[string]any `json:"users"`
		} `json:"data"`
	}
	must(t, json.Unmarshal(value, &record))
	for i := range 254 {
		record.Data.Users[fmt.Sprintf("u%062d", i)] = record.Data.Users["one"]
	}
	value, err = json.Marshal(record)
	must(t, err)
	must(t, h.store.Update(t.Context(), "access", value, revision))
	h.user("last", auth.Viewer)
	wants(t, "one more user", h.CreateUser(t.Context(), root, "more", auth.Viewer, password("x")), auth.ErrInput)
	if n := len(h.kept()); n > 256<<10 {
		t.Errorf("256 users take %d bytes", n)
	}
}

// What another appliance changed holds after two seconds at most; an admin who was
// removed cannot use them.
func TestAChangeElsewhereHoldsAfterTwoSeconds(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	h.user("mallory", auth.Admin)
	other := h.annex()
	s := other.login("mallory")
	other.is(s, "mallory", auth.Admin)
	must(t, h.RemoveUser(t.Context(), root, "mallory"))
	for what, err := range changes(other, s.Principal) {
		wants(t, what+" by an admin who was removed", err, auth.ErrForbidden)
	}
	_, _, err := other.CreateToken(t.Context(), s.Principal, auth.NewToken{Name: "stay", Role: auth.Viewer})
	wants(t, "a token by an admin who was removed", err, auth.ErrForbidden)
	h.ended(s)
	h.clock.pass(auth.Fresh)
	other.ended(s)
	_, err = other.Login(t.Context(), here, "mallory", password("mallory"))
	wants(t, "a login of one who was removed", err, auth.ErrWrong)
}

func TestWithoutAStoreNobodyGetsIn(t *testing.T) {
	h := newHouse(t)
	h.user("ops", auth.Admin)
	s := h.login("ops")
	down := &broken{Memory: h.store}
	g := auth.New(down, h.audit, h.clock.Now)
	g.Cheap(nil)
	_, err := g.Session(t.Context(), here, string(s.Value))
	must(t, err)
	down.down.Store(true)
	h.clock.pass(time.Second)
	_, err = g.Session(t.Context(), here, string(s.Value))
	wants(t, "a session", err, errDown)
	_, err = g.Login(t.Context(), here, "ops", password("ops"))
	wants(t, "a login", err, errDown)
	wants(t, "a change", g.RemoveUser(t.Context(), root, "ops"), errDown)
	if e := h.last(); e.Outcome != auth.Failed {
		t.Errorf("recorded: %+v", e)
	}
}

func TestARecordOfALaterVersionIsLeftAlone(t *testing.T) {
	h := newHouse(t)
	later := `{"format":2,"data":{"users":{}}}`
	must(t, h.store.Create(t.Context(), "access", []byte(later)))
	_, err := h.FirstCode(t.Context())
	if err == nil || h.kept() != "access "+later+"\n" {
		t.Errorf("FirstCode = %v, and left %s", err, h.kept())
	}
}
