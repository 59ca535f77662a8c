package vmwaretest

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// rename gives a VM another name wherever it has one; no other VM of its folder may.
func (s *Server) rename(ctx *simulator.Context, req *types.Rename_Task) soap.HasFault {
	vm := vmOf(ctx, req.This)
	ref := task(ctx, vm, "rename", func() (types.AnyType, types.BaseMethodFault) {
		name := stored(req.NewName)
		if folder, ok := ctx.Map.Get(*vm.Parent).(*simulator.Folder); ok {
			if e := ctx.Map.FindByName(name, folder.ChildEntity); e != nil && e.Reference() != vm.Self {
				return nil, &types.DuplicateName{Name: name, Object: e.Reference()}
			}
		}
		ctx.Update(vm, []types.PropertyChange{
			{Name: "name", Val: name}, {Name: "config.name", Val: name}, {Name: "summary.config.name", Val: name}})
		return nil, nil
	})
	return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: ref}}
}
