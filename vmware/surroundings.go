package vmware

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// target is one of the inventory that privileges are held on.
type target struct {
	ref  types.ManagedObjectReference
	name string // for people: VM web01
}

// surroundings are the objects that migrations of some VMs have to do with.
type surroundings struct {
	on    map[ObjectKind][]target
	hosts []mo.HostSystem
	own   string // MoRef of the VM that this program runs in, if it does
}

// surroundings finds what VMs stand on, and where an own VM is. VMs that are not there
// any more are findings.
func (s *Session) surroundings(ctx context.Context, vms []VM, own string) (surroundings, []Finding) {
	around := surroundings{own: own, on: map[ObjectKind][]target{OnRoot: {{s.client.ServiceContent.RootFolder, "the root folder"}}}}
	records, names, found := s.existing(ctx, vms)
	refs := map[ObjectKind][]types.ManagedObjectReference{}
	var hosts []types.ManagedObjectReference
	for _, r := range records {
		refs[OnDatastore] = append(refs[OnDatastore], r.Datastore...)
		refs[OnFolder] = append(refs[OnFolder], some(r.Parent)...)
		hosts = append(hosts, some(r.Runtime.Host)...)
		around.on[OnVM] = append(around.on[OnVM], target{r.Self, "VM " + names[r.Self]})
	}
	var err error
	if refs[OnOwnFolder], refs[OnPool], err = s.home(ctx, own); err != nil {
		found = append(found, unseen("vsphere/objects", "the folder and the pool of this program's own VM", err))
	}
	for kind, those := range refs {
		objects, err := s.objectsOf(ctx, kind, those)
		if err != nil {
			found = append(found, unseen("vsphere/objects", fmt.Sprintf("a %s of the VMs", kind), err))
		}
		around.on[kind] = objects
	}
	if around.hosts, err = s.hosts(ctx, hosts); err != nil {
		found = append(found, unseen("vsphere/objects", "a host of the VMs", err))
	}
	return around, found
}

// home is the folder and the resource pool of the VM that this program runs in, if it does.
func (s *Session) home(ctx context.Context, own string) (folder, pool []types.ManagedObjectReference, err error) {
	if own == "" {
		return nil, nil, nil
	}
	var vm mo.VirtualMachine
	err = s.look(ctx, vmRef(own), &vm, "parent", "resourcePool")
	return some(vm.Parent), some(vm.ResourcePool), err
}

func some(ref *types.ManagedObjectReference) []types.ManagedObjectReference {
	if ref == nil {
		return nil
	}
	return []types.ManagedObjectReference{*ref}
}

// existing reads where VMs are, of those that there are.
func (s *Session) existing(ctx context.Context, vms []VM) (records []mo.VirtualMachine, names map[types.ManagedObjectReference]string, found []Finding) {
	var refs []types.ManagedObjectReference
	names = map[types.ManagedObjectReference]string{}
	for _, vm := range vms {
		ref := types.ManagedObjectReference{Type: "VirtualMachine", Value: vm.Ref}
		refs, names[ref] = append(refs, ref), vm.Name
	}
	for len(refs) > 0 {
		err := property.DefaultCollector(s.client).Retrieve(ctx, refs, []string{"parent", "datastore", "runtime.host"}, &records)
		var gone *types.ManagedObjectNotFound
		if _, ok := fault.As(err, &gone); !ok || !slices.Contains(refs, gone.Obj) {
			if err != nil {
				found = append(found, unseen("vsphere/objects", "the VMs", err))
			}
			return records, names, found
		}
		found = append(found, Finding{Code: "vsphere/vm", Level: Blocker, Text: fmt.Sprintf("the VM %s (%s) is not there any more", names[gone.Obj], gone.Obj.Value), Try: "read the inventory again"})
		refs = slices.DeleteFunc(refs, func(r types.ManagedObjectReference) bool { return r == gone.Obj })
	}
	return records, names, found
}

// objectsOf reads the names of objects of a kind, each once.
func (s *Session) objectsOf(ctx context.Context, kind ObjectKind, refs []types.ManagedObjectReference) ([]target, error) {
	refs = unique(refs)
	if len(refs) == 0 {
		return nil, nil
	}
	var content []types.ObjectContent
	if err := property.DefaultCollector(s.client).Retrieve(ctx, refs, []string{"name"}, &content); err != nil {
		return nil, err
	}
	var objects []target
	for _, c := range content {
		o := target{c.Obj, string(kind) + " " + c.Obj.Value}
		for _, p := range c.PropSet {
			if name, ok := p.Val.(string); ok {
				o.name = string(kind) + " " + name
			}
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func (s *Session) hosts(ctx context.Context, refs []types.ManagedObjectReference) (hosts []mo.HostSystem, err error) {
	refs = unique(refs)
	if len(refs) == 0 {
		return nil, nil
	}
	err = property.DefaultCollector(s.client).Retrieve(ctx, refs, []string{"name", "runtime.connectionState", "runtime.inMaintenanceMode", "summary.config.product", "config.network.vnic"}, &hosts)
	return hosts, err
}

// unique is refs in an order that is always the same, each once.
func unique(refs []types.ManagedObjectReference) []types.ManagedObjectReference {
	slices.SortFunc(refs, func(a, b types.ManagedObjectReference) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(refs)
}
