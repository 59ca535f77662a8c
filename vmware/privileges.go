package vmware

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// atOnce is how many objects a server is asked for at once.
const atOnce = 200

// lack is a privilege that the user does not have on an object.
type lack struct{ privilege, object string }

// grants are the privileges that the user has, by objects.
type grants map[types.ManagedObjectReference]map[string]bool

func (g grants) add(ref types.ManagedObjectReference, privilege string) {
	if g[ref] == nil {
		g[ref] = map[string]bool{}
	}
	g[ref][privilege] = true
}

// privileges finds which of those that purposes need the user lacks, and on what.
func (s *Session) privileges(ctx context.Context, around surroundings, purposes []Purpose) []Finding {
	known, err := s.known(ctx)
	if err != nil {
		return []Finding{unseen("vsphere/privileges", "the server's privileges", err)}
	}
	granted, targets := grants{}, around.targets()
	for kind, objects := range targets {
		if err := s.granted(ctx, granted, objects, needsOn(kind, known)); err != nil {
			return []Finding{unseen("vsphere/privileges", fmt.Sprintf("what the user may do on a %s", kind), err)}
		}
	}
	lacks := map[Purpose][]lack{}
	for _, c := range Calls() {
		for _, n := range c.Needs {
			if len(known) == 0 || known[n.Privilege] {
				lacks[c.For] = append(lacks[c.For], granted.lacks(n.Privilege, targets[n.On])...)
			}
		}
	}
	return append(s.verdict(lacks, purposes, around.own != ""), strange(known)...)
}

// targets are the objects to look at for each kind. Without VMs the root folder stands
// for all: what is held there, propagated, is held everywhere.
func (a surroundings) targets() map[ObjectKind][]target {
	targets := maps.Clone(a.on)
	if len(a.on[OnVM]) == 0 {
		for _, kind := range []ObjectKind{OnVM, OnDatastore, OnFolder} {
			targets[kind] = a.on[OnRoot]
		}
	}
	if a.own != "" {
		targets[OnAppliance] = []target{{types.ManagedObjectReference{Type: "VirtualMachine", Value: a.own}, "this program's own VM"}}
	}
	return targets
}

// needsOn are the privileges that any call needs on a kind of object, of those that
// the server knows: it refuses to be asked for others.
func needsOn(kind ObjectKind, known map[string]bool) []string {
	needed := map[string]bool{}
	for _, c := range Calls() {
		for _, n := range c.Needs {
			if n.On == kind && (len(known) == 0 || known[n.Privilege]) {
				needed[n.Privilege] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(needed))
}

// known are the privileges that the server has; empty: it does not say.
func (s *Session) known(ctx context.Context) (map[string]bool, error) {
	var manager mo.AuthorizationManager
	err := s.look(ctx, *s.client.ServiceContent.AuthorizationManager, &manager, "privilegeList")
	known := map[string]bool{}
	for _, p := range manager.PrivilegeList {
		known[p.PrivId] = true
	}
	return known, err
}

// strange says which privileges the server does not know, and so does not want.
func strange(known map[string]bool) []Finding {
	var names []string
	for _, p := range Privileges() {
		if len(known) > 0 && !known[p] {
			names = append(names, p)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []Finding{{Code: "vsphere/privileges-unknown", Level: OK,
		Text: fmt.Sprintf("this server knows no privilege %s, and so does not ask for it; leave it out of the role", strings.Join(names, ", "))}}
}

// granted adds which of privileges the user has on objects. A vCenter is asked what the
// session may do; ESXi hosts cannot tell that, and are asked which roles the user has.
//
// Source: vSphere Web Services API, AuthorizationManager.HasPrivilegeOnEntities
// ("implemented only by vCenter Server"), ManagedEntity.effectiveRole.
func (s *Session) granted(ctx context.Context, to grants, objects []target, privileges []string) error {
	ask := s.byRole
	if s.VCenter() {
		ask = s.bySession
	}
	for part := range slices.Chunk(objects, atOnce) {
		refs := []types.ManagedObjectReference{}
		for _, o := range part {
			refs = append(refs, o.ref)
		}
		if err := ask(ctx, to, refs, privileges); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) bySession(ctx context.Context, to grants, refs []types.ManagedObjectReference, privileges []string) error {
	key := s.key.Load()
	answer, err := methods.HasPrivilegeOnEntities(ctx, s, &types.HasPrivilegeOnEntities{
		This: *s.client.ServiceContent.AuthorizationManager, Entity: refs, SessionId: *key, PrivId: privileges})
	switch {
	case err != nil:
		return err
	case s.key.Load() != key: // a session that has ended may do nothing
		return s.bySession(ctx, to, refs, privileges)
	}
	for _, entity := range answer.Returnval {
		for _, p := range entity.PrivAvailability {
			if p.IsGranted {
				to.add(entity.Entity, p.PrivId)
			}
		}
	}
	return nil
}

func (s *Session) byRole(ctx context.Context, to grants, refs []types.ManagedObjectReference, _ []string) error {
	var manager mo.AuthorizationManager
	if err := s.look(ctx, *s.client.ServiceContent.AuthorizationManager, &manager, "roleList"); err != nil {
		return err
	}
	roles := map[int32][]string{}
	for _, r := range manager.RoleList {
		roles[r.RoleId] = r.Privilege
	}
	var content []types.ObjectContent
	if err := property.DefaultCollector(s.client).Retrieve(ctx, refs, []string{"effectiveRole"}, &content); err != nil {
		return err
	}
	for _, c := range content {
		for _, p := range c.PropSet {
			ids, _ := p.Val.(types.ArrayOfInt)
			for _, id := range ids.Int {
				for _, privilege := range roles[id] {
					to.add(c.Obj, privilege)
				}
			}
		}
	}
	return nil
}

// lacks are the objects on which the user does not have a privilege.
func (g grants) lacks(privilege string, objects []target) (lacks []lack) {
	for _, o := range objects {
		if !g[o.ref][privilege] {
			lacks = append(lacks, lack{privilege, o.name})
		}
	}
	return lacks
}
