package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/vmware/vmwaretest"
)

// site is a server, and what an agent's settings say of it.
type site struct {
	*vmwaretest.Server
	settings string
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := vmwaretest.Start(t, vmwaretest.Options{Password: "vcenters-wary-walrus"})
	return &site{s, fmt.Sprintf("vsphere: [{name: vc1, server: '%s', user: %s, secret: vc1-password, thumbprint: '%s', transports: [https]}]", s.URL.Host, s.User, s.ThumbprintSHA256)}
}

// knows gives an agent a password for the server.
func (v *site) knows(t *testing.T, a *appliance, password string) {
	t.Helper()
	if status, text := a.send(t, "PUT", "/secrets/vc1-password", fmt.Sprintf(`{"value":%q}`, password)); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, text)
	}
}

// asked reads an answer, and holds its status to what is wanted.
func asked[T any](t *testing.T, a *appliance, path string, want int) (v T) {
	t.Helper()
	status, text := a.send(t, "GET", path, "")
	if err := json.Unmarshal(text, &v); err != nil || status != want {
		t.Fatalf("%s: %d, want %d, %v\n%s", path, status, want, err, text)
	}
	return v
}

func names(list model.VMList) (all []string) {
	for _, vm := range list.Items {
		all = append(all, vm.Name)
	}
	return all
}

func TestServersAreListedCheckedAndSearched(t *testing.T) {
	v := newSite(t)
	for i := range 7 {
		v.AddVM(t, vmwaretest.VM{Name: fmt.Sprintf("web%02d", i), Folder: "Web", Disks: []vmwaretest.Disk{{Size: 1 << 30}}, NICs: []vmwaretest.NIC{{MAC: fmt.Sprintf("00:50:56:01:02:%02x", i)}}})
	}
	db := v.AddVM(t, vmwaretest.VM{Name: "db01", Disks: []vmwaretest.Disk{{Size: 1 << 30, Sharing: "sharingMultiWriter"}}})
	a := started(t, t.TempDir(), v.settings)
	if p := asked[model.Problem](t, a, "/vsphere/vc1/vms", 409); p.Code != "no-such-secret" || p.Try == "" {
		t.Errorf("without its secret: %+v", p)
	}
	v.knows(t, a, v.Password)
	type list[T any] struct{ Items []T }
	if s := asked[list[model.Server]](t, a, "/vsphere", 200).Items; len(s) != 1 || s[0].Name != "vc1" || s[0].Secret != "vc1-password" || !slices.Equal(s[0].Appliances, []string{"a1"}) || s[0].Refused != "" {
		t.Errorf("the servers are %+v", s)
	}
	var all []string
	for page := asked[model.VMList](t, a, "/vsphere/vc1/vms?limit=3", 200); ; page = asked[model.VMList](t, a, "/vsphere/vc1/vms?limit=3&cursor="+url.QueryEscape(page.Next), 200) {
		if all = append(all, names(page)...); page.Next == "" {
			break
		}
		if len(page.Items) != 3 {
			t.Fatalf("a page has %d VMs", len(page.Items))
		}
	}
	slices.Sort(all)
	if want := []string{"db01", "web00", "web01", "web02", "web03", "web04", "web05", "web06"}; !slices.Equal(all, want) {
		t.Errorf("the pages hold %q, want %q", all, want)
	}
	if got := names(asked[model.VMList](t, a, "/vsphere/vc1/vms?folder=Web&name=web05&name=db*", 200)); !slices.Equal(got, []string{"web05"}) {
		t.Errorf("filtered are %q", got)
	}
	one := asked[model.VM](t, a, "/vsphere/vc1/vms/"+db.Ref.Value, 200)
	if one.Name != "db01" || len(one.Disks) != 1 || one.Disks[0].Size != 1<<30 || one.Concerns[0].Level != model.FindingLevelBlocker || one.Concerns[0].Code != "vsphere/shared-disk" || one.Concerns[0].Try == "" {
		t.Errorf("one VM is %+v", one)
	}
	for path, code := range map[string]string{"/vsphere/vc1/vms/vm-9999": "no-such-vm", "/vsphere/vc2/vms": "no-such-server", "/vsphere/vc2/check": "no-such-server", "/vsphere/vc1/check?vm=nobody": "no-such-vm"} {
		if p := asked[model.Problem](t, a, path, 404); p.Code != code || p.Detail == "" || p.Try == "" {
			t.Errorf("%s is answered with %+v", path, p)
		}
	}
	for _, path := range []string{"/vsphere/vc1/vms?name=%5B", "/vsphere/vc1/check?for=fun"} {
		if p := asked[model.Problem](t, a, path, 422); p.Code != "bad-input" {
			t.Errorf("%s is answered with %+v", path, p)
		}
	}
	codes := map[string]model.FindingLevel{}
	for _, f := range asked[list[model.Finding]](t, a, "/vsphere/vc1/check?vm=web01&vm=db01&for=https", 200).Items {
		codes[f.Code] = f.Level
	}
	if codes["vsphere/server"] != model.FindingLevelOk || codes["vsphere/vddk"] == "" || codes["vsphere/clock"] == "" {
		t.Errorf("found are %v", codes)
	}
	if n := len(v.Sessions()); n != 1 {
		t.Errorf("all that was asked for took %d sessions", n)
	}
	a.stop(t)
	if n := len(v.Sessions()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestARefusedPasswordIsTriedOnce: by whoever asks, until the secret is put anew.
func TestARefusedPasswordIsTriedOnce(t *testing.T) {
	v := newSite(t)
	v.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	a := started(t, t.TempDir(), v.settings)
	tried := v.Calls()["Login"]
	v.knows(t, a, "a-wrong-password")
	for range 3 {
		if p := asked[model.Problem](t, a, "/vsphere/vc1/vms", 502); p.Code != "vsphere-login" || p.Try == "" || strings.Contains(p.Detail, "a-wrong-password") {
			t.Errorf("a wrong password is answered with %+v", p)
		}
		found := asked[struct{ Items []model.Finding }](t, a, "/vsphere/vc1/check", 200).Items
		if len(found) != 1 || found[0].Code != "vsphere/login" || found[0].Level != model.FindingLevelBlocker {
			t.Errorf("found are %+v", found)
		}
	}
	a.begin(t, "refused", `{"source":{"vsphere":{"server":"vc1","vm":"web01"}},"target":{"storage":"to"}}`)
	if m := a.settles(t, "refused"); m.State != model.StateFailed || m.Problem.Code != "vsphere-login" {
		t.Errorf("its migration is %+v", m)
	}
	if s := asked[struct{ Items []model.Server }](t, a, "/vsphere", 200).Items; s[0].Refused == "" {
		t.Errorf("nobody says that it is refused: %+v", s)
	}
	if n := v.Calls()["Login"] - tried; n != 1 {
		t.Errorf("it was tried %d times", n)
	}
	v.knows(t, a, "a-wrong-password") // put once more, it is tried once more
	asked[model.Problem](t, a, "/vsphere/vc1/vms", 502)
	asked[model.Problem](t, a, "/vsphere/vc1/vms", 502)
	if n := v.Calls()["Login"] - tried; n != 2 {
		t.Errorf("put once more, it was tried %d times in all", n)
	}
	v.knows(t, a, v.Password)
	if got := names(asked[model.VMList](t, a, "/vsphere/vc1/vms", 200)); len(got) != 1 {
		t.Errorf("with the right one there are %q", got)
	}
}

// begin asks for a migration.
func (a *appliance) begin(t *testing.T, id, spec string) {
	t.Helper()
	if status, text := a.send(t, "POST", "/migrations", fmt.Sprintf(`{"id":%q,"spec":%s}`, id, spec)); status != http.StatusAccepted {
		t.Fatalf("%s is answered with %d %s", id, status, text)
	}
}

// settles waits for the end of a migration, or until it is held.
func (a *appliance) settles(t *testing.T, id string) (m model.Migration) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		m = asked[model.Migration](t, a, "/migrations/"+id, 200)
		if m.State != model.StateQueued && m.State != model.StateRunning {
			return m
		}
		if time.Now().After(limit) {
			t.Fatalf("%s is %+v", id, m)
		}
	}
}
