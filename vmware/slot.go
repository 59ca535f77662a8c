package vmware

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// slot is where a disk can be attached.
type slot struct{ controller, unit int32 }

const (
	// unitsSCSI are the disks of a SCSI controller; unit 7 is the controller itself.
	// Source: VMware, vSphere Virtual Machine Administration, "SCSI controller configuration".
	unitsSCSI = 16
	ownUnit   = 7
)

// freeSlot is a free unit of a VM's SCSI controllers that take disks while it runs,
// paravirtual ones first. A controller whose bus is shared is not used.
func freeSlot(v mo.VirtualMachine) (slot, error) {
	used := map[slot]bool{}
	for _, d := range devicesOf(v) {
		if u := d.GetVirtualDevice().UnitNumber; u != nil {
			used[slot{d.GetVirtualDevice().ControllerKey, *u}] = true
		}
	}
	for _, c := range controllers(v) {
		for unit := range int32(unitsSCSI) {
			if at := (slot{c.Key, unit}); unit != ownUnit && !used[at] {
				return at, nil
			}
		}
	}
	return slot{}, fmt.Errorf("our own VM %s: %w disk: each SCSI controller takes 15, and it may have four: add a paravirtual one",
		v.Name, ErrTooMany)
}

// controllers are a VM's SCSI controllers that take disks while it runs, the paravirtual first.
func controllers(v mo.VirtualMachine) (list []*types.VirtualSCSIController) {
	rank := map[*types.VirtualSCSIController]int{}
	for _, d := range devicesOf(v) {
		c, ok := d.(types.BaseVirtualSCSIController)
		if !ok || c.GetVirtualSCSIController().SharedBus != types.VirtualSCSISharingNoSharing {
			continue
		}
		switch d.(type) {
		case *types.ParaVirtualSCSIController:
			rank[c.GetVirtualSCSIController()] = 0
		case *types.VirtualLsiLogicController, *types.VirtualLsiLogicSASController:
			rank[c.GetVirtualSCSIController()] = 1
		default:
			continue
		}
		list = append(list, c.GetVirtualSCSIController())
	}
	slices.SortStableFunc(list, func(a, b *types.VirtualSCSIController) int {
		return cmp.Or(cmp.Compare(rank[a], rank[b]), cmp.Compare(a.BusNumber, b.BusNumber))
	})
	return list
}
