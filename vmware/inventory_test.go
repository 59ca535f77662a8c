package vmware

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	_ "github.com/vmware/govmomi/vapi/simulator"
)

// lab is a server as these tests have it, and a log-in there.
type lab struct {
	*Session
	*site
}

// serve starts a simulator and logs in, until the test ends.
func serve(t testing.TB, model *simulator.Model) *lab {
	t.Helper()
	at := newSite(t, model)
	return &lab{at.connect(t), at}
}

// vm is one of the simulator's own, to change it behind the API's back.
func (l *lab) vm(t testing.TB, name string) *simulator.VirtualMachine {
	t.Helper()
	for _, e := range l.model.Map().All("VirtualMachine") {
		if vm := e.(*simulator.VirtualMachine); vm.Name == name {
			return vm
		}
	}
	t.Fatalf("the simulator has no VM %s", name)
	return nil
}

// object is one of the simulator's of a type, by its name.
func (l *lab) object(t testing.TB, kind, name string) types.ManagedObjectReference {
	t.Helper()
	for _, e := range l.model.Map().All(kind) {
		if e.Entity().Name == name {
			return e.Reference()
		}
	}
	t.Fatalf("the simulator has no %s %s", kind, name)
	return types.ManagedObjectReference{}
}

// rename gives a VM a name as its server keeps it.
func rename(vm *simulator.VirtualMachine, name string) { vm.Name, vm.Config.Name = name, name }

func names(t testing.TB, s *Session, sel Selection) (list []string) {
	t.Helper()
	for vm, err := range s.VMs(t.Context(), sel) {
		if err != nil {
			t.Fatalf("VMs(%+v): %v", sel, err)
		}
		list = append(list, vm.Name)
	}
	return list
}

func TestVMsAreSelectedByWhatTheyAreCalledAndWhereTheyAre(t *testing.T) {
	model := simulator.VPX()
	model.Cluster, model.Host, model.Machine, model.Folder, model.App = 2, 1, 2, 1, 1
	l := serve(t, model)
	rename(l.vm(t, "DC0_C0_RP0_VM1"), "a%2fb [1] 100%25")
	web := l.vm(t, "DC0_H0_VM0")
	all := []string{"DC0_C0_APP0_VM0", "DC0_C0_APP0_VM1", "DC0_C0_RP0_VM0", "a/b [1] 100%", "DC0_C1_APP0_VM0", "DC0_C1_APP0_VM1", "DC0_C1_RP0_VM0", "DC0_C1_RP0_VM1", "DC0_H0_VM0", "DC0_H0_VM1"}
	slices.Sort(all)
	for _, c := range []struct {
		sel  Selection
		want []string
	}{
		{Selection{}, all},
		{Selection{VMs: []string{"DC0_H0_VM0"}}, []string{"DC0_H0_VM0"}},
		{Selection{VMs: []string{"dc0_h0_vm0"}}, nil},
		{Selection{VMs: []string{"DC0_H0_*", "*C1_RP0_VM[1-9]"}}, []string{"DC0_C1_RP0_VM1", "DC0_H0_VM0", "DC0_H0_VM1"}},
		{Selection{VMs: []string{"a/b [1] 100%"}}, []string{"a/b [1] 100%"}},
		{Selection{VMs: []string{"a%2fb [1] 100%25"}}, []string{"a/b [1] 100%"}},
		{Selection{VMs: []string{"/F0/DC0/vm/F0/DC0_H0_VM1"}}, []string{"DC0_H0_VM1"}},
		{Selection{VMs: []string{"/*/DC0/vm/*/DC0_H0_VM?"}}, []string{"DC0_H0_VM0", "DC0_H0_VM1"}},
		{Selection{VMs: []string{web.Self.Value}}, []string{"DC0_H0_VM0"}},
		{Selection{VMs: []string{strings.ToUpper(web.Config.Uuid)}}, []string{"DC0_H0_VM0"}},
		{Selection{VMs: []string{web.Config.InstanceUuid}}, []string{"DC0_H0_VM0"}},
		{Selection{Refs: []string{web.Self.Value}}, []string{"DC0_H0_VM0"}},
		{Selection{Refs: []string{"vm-99999", web.Self.Value, "vm-99998"}}, []string{"DC0_H0_VM0"}},
		{Selection{Refs: []string{web.Self.Value}, VMs: []string{"*_C0_*"}}, nil},
		{Selection{Clusters: []string{"DC0_C1"}}, []string{"DC0_C1_APP0_VM0", "DC0_C1_APP0_VM1", "DC0_C1_RP0_VM0", "DC0_C1_RP0_VM1"}},
		{Selection{Clusters: []string{"DC0_*"}, VMs: []string{"*RP0_VM0"}}, []string{"DC0_C0_RP0_VM0", "DC0_C1_RP0_VM0"}},
		{Selection{Folders: []string{"/F0/DC0/vm/F0/"}, VMs: []string{"*H0*"}}, []string{"DC0_H0_VM0", "DC0_H0_VM1"}},
		{Selection{Folders: []string{"nowhere"}}, nil},
	} {
		got := names(t, l.Session, c.sel)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("VMs(%+v) = %q, want %q", c.sel, got, c.want)
		}
	}
}

func TestAListGoesOnAfterAPlaceInItsOrder(t *testing.T) {
	model := simulator.VPX()
	model.Cluster, model.Host, model.Folder, model.App = 2, 1, 1, 1
	s := serve(t, model).Session
	all := names(t, s, Selection{})
	var pages []string
	for at := ""; ; {
		n := 0
		for vm, err := range s.VMs(t.Context(), Selection{After: at}) {
			if err != nil {
				t.Fatal(err)
			}
			pages, at = append(pages, vm.Name), vm.Place()
			if n++; n == 3 {
				break
			}
		}
		if n < 3 {
			break
		}
	}
	if len(all) < 4 || !slices.Equal(pages, all) {
		t.Errorf("by threes there are %q, want %q", pages, all)
	}
	if err := (Selection{VMs: []string{"["}}).check(); !errors.Is(err, ErrSelection) {
		t.Errorf("a pattern that is none is %v", err)
	}
}

func TestAnESXiHostsVMsAreListed(t *testing.T) {
	l := serve(t, simulator.ESX())
	vm, err := l.One(t.Context(), "ha-host_VM0")
	if err != nil {
		t.Fatal(err)
	}
	if vm.Path != "/ha-datacenter/vm/ha-host_VM0" || vm.Datacenter != "/ha-datacenter" || vm.Host != "localhost.localdomain" || vm.Cluster != "" || len(vm.Disks) != 1 || vm.NICs[0].Network != "VM Network" {
		t.Errorf("One = %+v", vm)
	}
	_, err = l.One(t.Context(), "x[")
	if err == nil || !strings.Contains(err.Error(), "a [ is not closed") {
		t.Errorf("a bad pattern: %v", err)
	}
	for vm, err := range l.VMs(t.Context(), Selection{ReadTags: true}) {
		if err != nil || len(vm.Tags) > 0 {
			t.Errorf("with its tags %s is %q, %v", vm.Name, vm.Tags, err)
		}
	}
	for _, err := range l.VMs(t.Context(), Selection{Tags: []string{"prod"}}) {
		if err == nil || !strings.Contains(err.Error(), "an ESXi host has none") {
			t.Errorf("tags of an ESXi host: %v", err)
		}
	}
}

func TestOneVMIsMeantOrTheErrorSaysWhichMayBe(t *testing.T) {
	model := simulator.VPX()
	model.Datacenter = 2
	l := serve(t, model)
	rename(l.vm(t, "DC1_H0_VM0"), "DC0_H0_VM0")
	if vm, err := l.One(t.Context(), "/DC1/vm/DC0_H0_VM0"); err != nil || vm.Datacenter != "/DC1" {
		t.Errorf("by path: %v, %v", vm.Path, err)
	}
	_, err := l.One(t.Context(), "DC0_H0_VM0")
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), "/DC0/vm/DC0_H0_VM0 (vm-") || !strings.Contains(err.Error(), "/DC1/vm/DC0_H0_VM0 (vm-") {
		t.Errorf("two of a name: %v", err)
	}
	_, err = l.One(t.Context(), "DC0_H0_VM9")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `there is "DC0_H0_VM`) {
		t.Errorf("none of a name: %v", err)
	}
	_, err = l.One(t.Context(), "mail server of the third floor")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "may not see it") {
		t.Errorf("none like it: %v", err)
	}
}

func TestAVMIsReadAloneWithAllThatSurroundsIt(t *testing.T) {
	l := serve(t, simulator.VPX())
	for _, name := range []string{"DC0_H0_VM0", "DC0_C0_RP0_VM1"} {
		surveyed, err := l.One(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for alone, err := range l.VMs(t.Context(), Selection{Refs: []string{surveyed.Ref}}) {
			if err != nil {
				t.Fatal(err)
			}
			if alone.Path != surveyed.Path || alone.Host != surveyed.Host || alone.Cluster != surveyed.Cluster || alone.Datacenter != surveyed.Datacenter || alone.NICs[0].Network != surveyed.NICs[0].Network || alone.Disks[0].Datastore != surveyed.Disks[0].Datastore || alone.Pool != surveyed.Pool {
				t.Errorf("alone %+v\nsurveyed %+v", alone, surveyed)
			}
		}
	}
}

func TestVMsAreSelectedByTheirTags(t *testing.T) {
	l := serve(t, simulator.VPX())
	tagged, err := l.tagged(t.Context(), Selection{ReadTags: true})
	if err != nil {
		t.Fatal(err)
	}
	attach(t, tagged, l.vm(t, "DC0_H0_VM1").Self, "wave", "first")
	attach(t, tagged, l.vm(t, "DC0_H0_VM0").Self, "owner", "first")
	if got := names(t, l.Session, Selection{Tags: []string{"wave/first"}}); !slices.Equal(got, []string{"DC0_H0_VM1"}) {
		t.Errorf("by category and name: %q", got)
	}
	if got := names(t, l.Session, Selection{Tags: []string{"first"}}); !slices.Equal(got, []string{"DC0_H0_VM0", "DC0_H0_VM1"}) {
		t.Errorf("by name: %q", got)
	}
	for vm, err := range l.VMs(t.Context(), Selection{VMs: []string{"DC0_H0_VM1"}, ReadTags: true}) {
		if err != nil || !slices.Equal(vm.Tags, []Tag{{"wave", "first"}}) {
			t.Errorf("tags = %v, %v", vm.Tags, err)
		}
	}
	for _, err := range l.VMs(t.Context(), Selection{Tags: []string{"second"}}) {
		if err == nil || !strings.Contains(err.Error(), `there is no tag "second"`) {
			t.Errorf("no such tag: %v", err)
		}
	}
}

// Whatever was made at the server is gone with the log-in, also between two pages.
func TestAListGoesOnAfterTheLogInEnded(t *testing.T) {
	l := serve(t, simulator.VPX())
	populate(t, l, 2*firstPage)
	seen := map[string]bool{}
	l.endSessions(t)
	for vm, err := range l.VMs(t.Context(), Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 {
			l.endSessions(t)
		}
		if seen[vm.Ref] || vm.Path == "" || len(vm.Disks) == 0 {
			t.Errorf("again, or not whole: %+v", vm)
		}
		seen[vm.Ref] = true
	}
	if want := 2 * firstPage; len(seen) != want {
		t.Errorf("%d VMs, want %d", len(seen), want)
	}
}

// Neither VMs nor hosts, networks or datastores are asked for one by one.
func TestAListIsReadInFewCalls(t *testing.T) {
	l := serve(t, simulator.VPX())
	populate(t, l, 2*firstPage)
	if got := names(t, l.Session, Selection{}); len(got) != 2*firstPage {
		t.Fatalf("%d VMs", len(got))
	}
	for method, want := range map[string]int{"CreateContainerView": 1, "RetrievePropertiesEx": 3, "ContinueRetrievePropertiesEx": 0, "RetrieveProperties": 0, "DestroyView": 1} {
		if got := l.count(method); got != want {
			t.Errorf("%s was called %d times, want %d", method, got, want)
		}
	}
	if _, err := l.One(t.Context(), "/DC0/vm/DC0_H0_VM0"); err != nil || l.count("RetrievePropertiesEx") != 5 {
		t.Errorf("one VM: %v, %d calls", err, l.count("RetrievePropertiesEx")-3)
	}
}

// A caller that has enough leaves nothing behind at the server.
func TestACallerMayHaveEnough(t *testing.T) {
	l := serve(t, simulator.VPX())
	for _, err := range l.VMs(t.Context(), Selection{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if made, gone := l.count("CreateContainerView"), l.count("DestroyView"); made != gone {
		t.Errorf("%d views are left", made-gone)
	}
}

// A vCenter gives VMs of a vApp no folder; the vApp has one.
func TestAVMOfAVAppIsInTheFolderOfThat(t *testing.T) {
	model := simulator.VPX()
	model.App = 1
	l := serve(t, model)
	vm, app := l.vm(t, "DC0_C0_APP0_VM0"), l.object(t, "VirtualApp", "DC0_C0_APP0")
	folder := *vm.Parent
	vm.Parent, vm.ParentVApp = nil, &app
	l.model.Map().Get(app).(*simulator.VirtualApp).ParentFolder = &folder
	surveyed, err := l.One(t.Context(), "/DC0/vm/DC0_C0_APP0/DC0_C0_APP0_VM0")
	if err != nil {
		t.Fatal(err)
	}
	for alone, err := range l.VMs(t.Context(), Selection{Refs: []string{vm.Self.Value}}) {
		if err != nil || alone.Path != surveyed.Path || alone.Datacenter != "/DC0" {
			t.Errorf("alone it is %s in %s: %v", alone.Path, alone.Datacenter, err)
		}
	}
}

func TestANetworkOfNSXHasItsName(t *testing.T) {
	model := simulator.VPX()
	model.OpaqueNetwork = 1
	l := serve(t, model)
	network := l.model.Map().Any("OpaqueNetwork").(*mo.OpaqueNetwork)
	vm := l.vm(t, "DC0_H0_VM0")
	card := &types.VirtualVmxnet3{}
	card.Backing = &types.VirtualEthernetCardOpaqueNetworkBackingInfo{OpaqueNetworkId: network.Summary.(*types.OpaqueNetworkSummary).OpaqueNetworkId}
	vm.Config.Hardware.Device = append(vm.Config.Hardware.Device, card)
	vm.Network = append(vm.Network, network.Self)
	for _, sel := range []Selection{{VMs: []string{"DC0_H0_VM0"}}, {Refs: []string{vm.Self.Value}}} {
		for read, err := range l.VMs(t.Context(), sel) {
			if err != nil {
				t.Fatal(err)
			}
			if n := read.NICs[1]; n.Network != network.Name || n.NetworkKind != "opaque" || n.NetworkRef != network.Self.Value {
				t.Errorf("%+v: %+v, want %s", sel, n, network.Name)
			}
		}
	}
}
