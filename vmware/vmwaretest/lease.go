package vmwaretest

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// lease is an export under way. It ends when its client says so, or when it was silent
// for too long; a client that tells of its progress is not.
type lease struct {
	mo.HttpNfcLease

	server *Server
	vm     types.ManagedObjectReference
	whole  bool // of the VM itself, not of a snapshot
	files  map[string]*exported
	timer  *time.Timer
	ended  chan struct{}
}

// exported is a file of a lease.
type exported struct {
	key  string
	raw  string // of a disk
	size int64  // of the disk
	sent int64  // bytes, when it was sent whole
	sha1 string // of them
}

// newLease begins a lease that is ready at once.
func (s *Server) newLease(ctx *simulator.Context, vm *simulator.VirtualMachine, devices []types.BaseVirtualDevice) (*lease, error) {
	l := &lease{server: s, vm: vm.Self, files: map[string]*exported{}, ended: make(chan struct{})}
	l.Self = types.ManagedObjectReference{Type: "HttpNfcLease", Value: "lease-" + uuid.NewString()}
	l.State, l.InitializeProgress = types.HttpNfcLeaseStateReady, 100
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.contents(l, vm, devices); err != nil {
		return nil, err
	}
	s.leases[l.Self.Value] = l
	l.timer = time.AfterFunc(s.options.LeaseTimeout, l.timeOut)
	ctx.Map.Put(l)
	return l, nil
}

// over takes a lease out of the server's books, which can be done once.
func (l *lease) over() bool {
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	if l.server.leases[l.Self.Value] == nil {
		return false
	}
	l.timer.Stop()
	delete(l.server.leases, l.Self.Value)
	close(l.ended)
	return true
}

func (s *Server) openLeases() []*lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.leases))
}

// TimeOutLeases ends all leases as if nobody had spoken of them in time.
func (s *Server) TimeOutLeases() {
	for _, l := range s.openLeases() {
		l.timeOut()
	}
}

// timeOut ends a lease that nobody spoke of.
func (l *lease) timeOut() {
	ctx := l.server.context()
	ctx.WithLock(l, func() { l.timedOut(ctx) })
}

// timedOut has a lease, which is locked, end as one that nobody spoke of in time: whoever
// is told so finds it so.
func (l *lease) timedOut(ctx *simulator.Context) {
	if !l.over() {
		return
	}
	ctx.Update(l, []types.PropertyChange{
		{Name: "state", Val: types.HttpNfcLeaseStateError},
		{Name: "error", Val: &types.LocalizedMethodFault{Fault: &types.Timedout{}, LocalizedMessage: "Lease timed out"}},
	})
}

// HttpNfcLeaseProgress keeps the lease alive.
func (l *lease) HttpNfcLeaseProgress(ctx *simulator.Context, req *types.HttpNfcLeaseProgress) soap.HasFault {
	if l.State != types.HttpNfcLeaseStateReady || !l.timer.Reset(l.server.options.LeaseTimeout) {
		l.timedOut(ctx)
		return refuse("the lease has timed out", &types.Timedout{})
	}
	l.TransferProgress = req.Percent
	return &methods.HttpNfcLeaseProgressBody{Res: new(types.HttpNfcLeaseProgressResponse)}
}

// HttpNfcLeaseComplete ends the lease.
func (l *lease) HttpNfcLeaseComplete(ctx *simulator.Context, _ *types.HttpNfcLeaseComplete) soap.HasFault {
	if !l.over() {
		return refuse("the lease has timed out", &types.Timedout{})
	}
	ctx.Map.Remove(ctx, l.Self)
	return &methods.HttpNfcLeaseCompleteBody{Res: new(types.HttpNfcLeaseCompleteResponse)}
}

// HttpNfcLeaseAbort ends the lease.
func (l *lease) HttpNfcLeaseAbort(ctx *simulator.Context, _ *types.HttpNfcLeaseAbort) soap.HasFault {
	l.over()
	ctx.Map.Remove(ctx, l.Self)
	return &methods.HttpNfcLeaseAbortBody{Res: new(types.HttpNfcLeaseAbortResponse)}
}

// HttpNfcLeaseGetManifest tells of the files that were sent whole.
func (l *lease) HttpNfcLeaseGetManifest(_ *simulator.Context, _ *types.HttpNfcLeaseGetManifest) soap.HasFault {
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	response := &types.HttpNfcLeaseGetManifestResponse{}
	for _, f := range l.files {
		if f.sha1 != "" {
			disk := f.raw != ""
			response.Returnval = append(response.Returnval, types.HttpNfcLeaseManifestEntry{
				Key: f.key, Sha1: f.sha1, Size: f.sent, Disk: disk, Capacity: f.size, PopulatedSize: f.sent})
		}
	}
	return &methods.HttpNfcLeaseGetManifestBody{Res: response}
}
