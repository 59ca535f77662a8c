package vmwaretest

import (
	"slices"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// grant is what a user may do on an object.
type grant struct {
	privileges []string
	below      bool // on what is in it, too
}

// everyRole is in every role.
//
// Source: vSphere Security, "Using Roles to Assign Privileges".
var everyRole = []string{"System.Anonymous", "System.Read", "System.View"}

// AddUser adds a user who may log in, and nothing else yet. The user of the options may
// do everything.
func (s *Server) AddUser(name, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[name] = password
}

// knows tells whether a password is a user's.
func (s *Server) knows(user, password string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.users[user]
	return ok && p == password
}

// Grant gives a user privileges on an object, and on what is in it if below is said. A
// grant on an object stands in the place of what is inherited.
func (s *Server) Grant(t testing.TB, user string, on types.ManagedObjectReference, below bool, privileges ...string) {
	t.Helper()
	ctx := s.context()
	m := ctx.Map.Get(*s.Client.ServiceContent.AuthorizationManager).(*simulator.AuthorizationManager)
	all := slices.Concat(everyRole, privileges)
	ctx.WithLock(m, func() {
		role := types.AuthorizationRole{RoleId: int32(1000 + len(m.RoleList)), Name: "role of " + user, Info: &types.Description{}, Privilege: all}
		m.RoleList = append(m.RoleList, role)
		have := m.RetrieveEntityPermissions(ctx, &types.RetrieveEntityPermissions{Entity: on}).(*methods.RetrieveEntityPermissionsBody)
		m.SetEntityPermissions(&types.SetEntityPermissions{Entity: on, Permission: append(have.Res.Returnval,
			types.Permission{Entity: &on, Principal: user, RoleId: role.RoleId, Propagate: below})})
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grants[user] == nil {
		s.grants[user] = map[types.ManagedObjectReference]grant{}
	}
	s.grants[user][on] = grant{privileges: all, below: below}
}

// privileges are what a user may do on an object. A VM inherits from its folder and
// from its pool.
//
// Source: vSphere Security, "Hierarchical Inheritance of Permissions".
func (s *Server) privileges(user string, on types.ManagedObjectReference) []string {
	if user == s.User {
		return s.admin()
	}
	all := s.inherited(user, on, true)
	if vm, ok := s.Model.Map().Get(on).(*simulator.VirtualMachine); ok && vm.ResourcePool != nil && !s.granted(user, on) {
		all = append(all, s.inherited(user, *vm.ResourcePool, false)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (s *Server) granted(user string, on types.ManagedObjectReference) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.grants[user][on]
	return ok
}

// inherited are the privileges of the nearest grant up a chain of parents.
func (s *Server) inherited(user string, on types.ManagedObjectReference, itself bool) []string {
	for {
		s.mu.Lock()
		g, ok := s.grants[user][on]
		s.mu.Unlock()
		if ok && (itself || g.below) {
			return slices.Clone(g.privileges)
		}
		e, ok := s.Model.Map().Get(on).(mo.Entity)
		if !ok || e.Entity().Parent == nil {
			return nil
		}
		on, itself = *e.Entity().Parent, false
	}
}

// admin is every privilege that there is.
func (s *Server) admin() []string {
	m := s.Model.Map().Get(*s.Client.ServiceContent.AuthorizationManager).(*simulator.AuthorizationManager)
	for _, r := range m.RoleList {
		if r.Name == "Admin" {
			return r.Privilege
		}
	}
	return nil
}

// may tells whether a user has a privilege on an object.
func (s *Server) may(user string, on types.ManagedObjectReference, privilege string) bool {
	return user == s.User || slices.Contains(s.privileges(user, on), privilege)
}

// available tells of each privilege whether a user has it on each object.
func (s *Server) available(user string, on []types.ManagedObjectReference, privileges []string) (all []types.EntityPrivilege) {
	for _, o := range on {
		e := types.EntityPrivilege{Entity: o}
		for _, p := range privileges {
			e.PrivAvailability = append(e.PrivAvailability, types.PrivilegeAvailability{PrivId: p, IsGranted: s.may(user, o, p)})
		}
		all = append(all, e)
	}
	return all
}

func (s *Server) hasPrivilegeOnEntities(_ *simulator.Context, req *types.HasPrivilegeOnEntities) soap.HasFault {
	u, ok := s.session(req.SessionId)
	if !ok {
		return refuse("there is no such session", &types.InvalidArgument{InvalidProperty: "sessionId"})
	}
	return &methods.HasPrivilegeOnEntitiesBody{Res: &types.HasPrivilegeOnEntitiesResponse{
		Returnval: s.available(u.UserName, req.Entity, req.PrivId)}}
}

func (s *Server) hasPrivilegeOnEntity(_ *simulator.Context, req *types.HasPrivilegeOnEntity) soap.HasFault {
	u, ok := s.session(req.SessionId)
	if !ok {
		return refuse("there is no such session", &types.InvalidArgument{InvalidProperty: "sessionId"})
	}
	response := &truths{}
	for _, p := range req.PrivId {
		response.Returnval = append(response.Returnval, s.may(u.UserName, req.Entity, p))
	}
	return &hasPrivilegeOnEntityBody{Res: response}
}

// hasPrivilegeOnEntityBody and truths are govmomi's own but for a false, which govmomi's
// leave out of the list.
type hasPrivilegeOnEntityBody struct {
	refused
	Res *truths `xml:"HasPrivilegeOnEntityResponse"`
}

type truths struct {
	Returnval []bool `xml:"returnval"`
}

func (s *Server) hasUserPrivilegeOnEntities(_ *simulator.Context, req *types.HasUserPrivilegeOnEntities) soap.HasFault {
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: &types.HasUserPrivilegeOnEntitiesResponse{
		Returnval: s.available(req.UserName, req.Entities, req.PrivId)}}
}

func (s *Server) fetchUserPrivilegeOnEntities(_ *simulator.Context, req *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	response := &types.FetchUserPrivilegeOnEntitiesResponse{}
	for _, o := range req.Entities {
		response.Returnval = append(response.Returnval, types.UserPrivilegeResult{Entity: o, Privileges: s.privileges(req.UserName, o)})
	}
	return &methods.FetchUserPrivilegeOnEntitiesBody{Res: response}
}
