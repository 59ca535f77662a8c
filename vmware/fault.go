package vmware

import (
	"errors"
	"fmt"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"
)

// Errors of changes that callers decide on. Their texts say what can be done.
var (
	// ErrNeedsPowerOff is a VM that did not shut down, and may not be powered off.
	ErrNeedsPowerOff = errors.New("the VM still runs")
	// ErrPoweredOn is a VM that runs again although it was off.
	ErrPoweredOn = errors.New("the VM was powered on meanwhile")
	// ErrUnheard is a VM that is off, of which the server does not tell whether it was on
	// meanwhile.
	ErrUnheard = errors.New("whether the VM was powered on meanwhile is not known")
	// ErrSuspended is a VM whose memory lies on a disk.
	ErrSuspended = errors.New("the VM is suspended")
	// ErrBusy is an object that other tasks work on for longer than is waited for.
	ErrBusy = errors.New("another task works on it")
	// ErrMaintenance is a host in maintenance or out of reach.
	ErrMaintenance = errors.New("the host cannot do it now")
	// ErrMoved is a VM whose disks or host are not those that were read.
	ErrMoved = errors.New("the VM was moved")
	// ErrCBTReset is a disk whose changes since a change ID are not known.
	ErrCBTReset = errors.New("changes are not known")
	// ErrSpace is a datastore without room.
	ErrSpace = errors.New("the datastore has too little free space")
	// ErrTooMany is a VM with more snapshots than are allowed, or without a free place for a disk.
	ErrTooMany = errors.New("there is no place for another")
	// ErrChanged is something that somebody else changed since.
	ErrChanged = errors.New("somebody else changed it")
	// ErrCannot is something that this server, VM or disk cannot have done.
	ErrCannot = errors.New("cannot be done here")
	// ErrGone is an object that is not there any more.
	ErrGone = errors.New("is not there any more")
)

// faultOf is the fault of a kind in an error.
func faultOf[T types.BaseMethodFault](err error) (f T, ok bool) {
	if err == nil {
		return f, false
	}
	_, ok = fault.As(err, &f)
	return f, ok
}

func isFault[T types.BaseMethodFault](err error) bool {
	_, ok := faultOf[T](err)
	return ok
}

// meaning is what faults mean to callers, and what can be done, in the order in which
// they are asked for.
var meaning = []struct {
	is  func(error) bool
	err error
	try string
}{
	{isFault[*types.ManagedObjectNotFound], ErrGone, ""},
	{isFault[*types.TaskInProgress], ErrBusy, "wait for it in vCenter's recent tasks, then try again"},
	{isFault[*types.FileLocked], ErrBusy, "another VM or a backup has a disk open: wait until it is done"},
	{isFault[*types.NoDiskSpace], ErrSpace, "free some or move the VM"},
	{isFault[*types.InsufficientStorageSpace], ErrSpace, "free some or move the VM"},
	{isFault[*types.RestrictedVersion], ErrCannot, "the free licence of ESXi only lets its API read: use a licensed host or read over SSH"},
	{isFault[*types.NotSupported], ErrCannot, "it needs a vCenter, or newer hardware of the VM"},
	{isFault[*types.MethodDisabled], ErrBusy, "a backup or another solution has disabled it: wait until that has ended"},
	{isFault[*types.HostNotConnected], ErrMaintenance, "connect the host, or move the VM to another"},
	{isFault[*types.HostNotReachable], ErrMaintenance, "connect the host, or move the VM to another"},
	{isFault[*types.InvalidHostState], ErrMaintenance, "take the host out of maintenance, or move the VM to another"},
	// Source: vSphere Web Services API, VirtualMachine.PowerOnVM_Task, faults.
	{isFault[*types.InvalidState], ErrMaintenance, "take the host out of maintenance, or move the VM to another"},
}

// explain gives a server's fault the error that callers know, and says what to do. What
// is said is what was to be done to which object.
func explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	if f, ok := faultOf[*types.NoPermission](err); ok {
		return fmt.Errorf("%s: %w: %s on %s", what, ErrPrivilege, f.PrivilegeId, objectOf(f))
	}
	for _, m := range meaning {
		if m.is(err) && m.try != "" {
			return fmt.Errorf("%s: %w: %w: %s", what, m.err, err, m.try)
		}
		if m.is(err) {
			return fmt.Errorf("%s: %w: %w", what, m.err, err)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func objectOf(f *types.NoPermission) string {
	if f.Object == nil {
		return "an object that the server does not name"
	}
	return f.Object.String()
}
