package vmwaretest

import (
	"os"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// queryChangedDiskAreas tells what of a disk was written after a change ID and before a
// snapshot, or with * what of it is not a hole, a page of extents at a time.
//
// Source: vSphere Web Services API, VirtualMachine.QueryChangedDiskAreas.
func (s *Server) queryChangedDiskAreas(ctx *simulator.Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	vm := vmOf(ctx, req.This)
	s.mu.Lock()
	defer s.mu.Unlock()
	q, fault := s.question(ctx, vm, req)
	if fault == nil {
		fault = q.askedWell(req)
	}
	if fault != nil {
		return refuse("the changed areas of the disk cannot be told", fault)
	}
	touched, err := q.touched(req.ChangeId)
	if err != nil {
		return refuse("Error caused by file "+q.layer.path, &types.FileFault{File: q.layer.path})
	}
	return &methods.QueryChangedDiskAreasBody{Res: &types.QueryChangedDiskAreasResponse{
		Returnval: page(touched, req.StartOffset, q.layer.size, s.options.MaxExtents)}}
}

// question is what is asked, looked up.
type question struct {
	tracked *tracked
	layer   *layer
	upTo    int // the sequence of the snapshot, or of now
}

// question looks up the disk, in the snapshot or in the VM as it is. s.mu is held.
func (s *Server) question(ctx *simulator.Context, vm *simulator.VirtualMachine, req *types.QueryChangedDiskAreas) (*question, types.BaseMethodFault) {
	t := s.tracking(diskID{vm.Self, req.DeviceKey})
	q, devices := &question{tracked: t, upTo: t.seq}, vm.Config.Hardware.Device
	if req.Snapshot != nil {
		snapshot, ok := ctx.Map.Get(*req.Snapshot).(*simulator.VirtualMachineSnapshot)
		if !ok || snapshot.Vm != vm.Self {
			return nil, &types.ManagedObjectNotFound{Obj: *req.Snapshot}
		}
		q.upTo, devices = t.at[req.Snapshot.Value], snapshot.Config.Hardware.Device
	}
	for _, d := range disksOf(devices) {
		if l, err := s.layerOf(vm, d); err == nil && d.Key == req.DeviceKey {
			q.layer = l
			return q, nil
		}
	}
	return nil, &types.InvalidArgument{InvalidProperty: "deviceKey"}
}

func (q *question) askedWell(req *types.QueryChangedDiskAreas) types.BaseMethodFault {
	switch {
	case !q.tracked.on:
		return &types.FileFault{File: q.layer.path}
	case req.StartOffset < 0 || req.StartOffset >= q.layer.size:
		return &types.InvalidArgument{InvalidProperty: "startOffset"}
	}
	return nil
}

// touched tells of each block whether it is one of those that are asked for.
func (q *question) touched(changeID string) (func(n int64) bool, error) {
	if changeID == "*" {
		return q.allocated()
	}
	id, seq, _ := strings.Cut(changeID, "/")
	from, err := strconv.Atoi(seq)
	if err != nil || id != q.tracked.id || from > q.upTo {
		return nil, os.ErrInvalid
	}
	return func(n int64) bool {
		at := q.tracked.written[n]
		return at > from && at <= q.upTo
	}, nil
}

func (q *question) allocated() (func(n int64) bool, error) {
	f, err := os.Open(q.layer.raw)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	blocks := map[int64]bool{}
	err = data(f, q.layer.size, func(off, n int64) error {
		for b := off / block; b*block < off+n; b++ {
			blocks[b] = !q.tracked.forgotten[b]
		}
		return nil
	})
	return func(n int64) bool { return blocks[n] }, err
}

// page is as many extents as an answer holds, from an offset on. Its length says how
// far it goes.
func page(touched func(n int64) bool, from, size int64, limit int) types.DiskChangeInfo {
	info := types.DiskChangeInfo{StartOffset: from, Length: size - from}
	for b := from / block; b*block < size; b++ {
		if !touched(b) {
			continue
		}
		start, end := max(b*block, from), min((b+1)*block, size)
		last := len(info.ChangedArea) - 1
		switch {
		case last >= 0 && info.ChangedArea[last].Start+info.ChangedArea[last].Length == start:
			info.ChangedArea[last].Length += end - start
		case last+1 == limit:
			info.Length = start - from
			return info
		default:
			info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: start, Length: end - start})
		}
	}
	return info
}
