package vmware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// TraceKind is what a trace changes. It is stable: records hold it.
type TraceKind string

// What can be changed.
const (
	KindPower    TraceKind = "power"
	KindCBT      TraceKind = "cbt"
	KindSnapshot TraceKind = "snapshot"
	KindClone    TraceKind = "clone"
	KindAttach   TraceKind = "attach"
	KindLease    TraceKind = "lease"
	KindName     TraceKind = "name"
	KindNIC      TraceKind = "nic"
	KindFolder   TraceKind = "folder"
	KindNote     TraceKind = "note"
	KindCategory TraceKind = "category"
	KindTag      TraceKind = "tag"
	KindTagged   TraceKind = "tagged"
)

// passing are the kinds that serve only the reading of disks. The others stay when a
// migration succeeds.
var passing = []TraceKind{KindCBT, KindSnapshot, KindClone, KindAttach, KindLease}

// State is how far a trace is.
type State string

// What a trace can be.
const (
	Noted  State = "noted"  // it is about to be made, or was: only the server knows
	Made   State = "made"   // it was made
	Undone State = "undone" // it was taken back, or never made: a VM was found off
	Left   State = "left"   // somebody else changed it since: it stays as they want it
)

// Trace is one change to a server's inventory, noted before it is made.
type Trace struct {
	ID     string    `json:"id"`               // its ledger's
	Server string    `json:"server,omitempty"` // the vCenter's own ID: a MoRef means another object elsewhere
	Kind   TraceKind `json:"kind"`
	Object string    `json:"object"` // the MoRef of what is changed: VirtualMachine:vm-42
	Name   string    `json:"name"`   // of the object, for people
	// Part is what of the object is changed, or what it is made from: a NIC's key,
	// the tag, the VM of a clone.
	Part    string    `json:"part,omitempty"`
	Was     string    `json:"was,omitempty"`
	Becomes string    `json:"becomes,omitempty"`
	Made    string    `json:"made,omitempty"` // the ID of what was made: a snapshot, a clone; the time since when a VM is off
	State   State     `json:"state"`
	Time    time.Time `json:"time"`
}

// open reports whether a trace may still have to be taken back.
func (t Trace) open() bool { return t.State == Noted || t.State == Made }

// Ledger keeps traces where they outlive this process. Any number of goroutines may
// use it.
type Ledger interface {
	// Note keeps a trace, and returns only when no crash can lose it.
	Note(Trace) (id string, err error)
	// Settle keeps what became of a trace, and what it made, if that is not empty.
	Settle(id string, state State, made string) error
	// Traces are all, in the order in which they were noted.
	Traces() ([]Trace, error)
}

// Hand changes things in a server for one migration, and takes them back. Its methods
// note what they do in the ledger before they do it. Any number of goroutines may use
// it. A process that was killed leaves a ledger; the next one's hand goes on with it.
type Hand struct {
	Session   *Session
	Migration string // its ID: letters, digits and dashes
	Ledger    Ledger
	Log       *slog.Logger
	// Patience is how long other tasks on an object are waited for; 15 minutes if zero.
	Patience time.Duration

	hotadd sync.Mutex // held while clones come and go
	export sync.Mutex // held while leases are
	leases map[string]*lease
}

var migrationID = regexp.MustCompile(`^[A-Za-z0-9-]{1,40}$`)

// mark is the name of something of ours: nobody else's begins so, and no migration's
// mark begins with another's.
func mark(migration, rest string) string { return "hyper2kvm " + migration + " " + rest }

// stamp is what stands in the description of something of ours.
func stamp(migration string) string {
	return "Made by hyper2kvm for migration " + migration +
		". It is removed when that ends; remove it yourself only if hyper2kvm is gone."
}

// note keeps a trace of what is about to be done.
func (h *Hand) note(t Trace) (Trace, error) {
	if !migrationID.MatchString(h.Migration) {
		return t, fmt.Errorf("migration ID %q: want 1 to 40 letters, digits and dashes", h.Migration)
	}
	t.Server = h.Session.identity()
	t.State, t.Time = Noted, time.Now().UTC()
	id, err := h.Ledger.Note(t)
	if err != nil {
		return t, fmt.Errorf("note %s of %s before it is changed: %w", t.Kind, t.Name, err)
	}
	t.ID = id
	return t, nil
}

// make notes a trace, does what it says and settles it. What do returns is the ID of
// what was made. A trace whose do fails stays noted: only the server knows what became
// of it.
func (h *Hand) make(ctx context.Context, t Trace, do func(context.Context) (string, error)) (string, error) {
	t, err := h.note(t)
	if err != nil {
		return "", err
	}
	h.Log.InfoContext(ctx, "vSphere is changed", "kind", t.Kind, "object", t.Object, "was", t.Was, "becomes", t.Becomes)
	made, err := do(ctx)
	if err != nil {
		return "", err
	}
	return made, h.Ledger.Settle(t.ID, Made, made)
}

// opened are the traces that may still have to be taken back and that want accepts.
func (h *Hand) opened(want func(Trace) bool) ([]Trace, error) {
	all, err := h.Ledger.Traces()
	if err != nil {
		return nil, fmt.Errorf("read what was changed: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(all), func(t Trace) bool { return !t.open() || !want(t) }), nil
}

// identity tells one vCenter from another; empty on a host.
func (s *Session) identity() string { return s.client.ServiceContent.About.InstanceUuid }

// vmRef is the reference of a VM by its MoRef.
func vmRef(id string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachine", Value: id}
}

func snapshotRef(id string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: id}
}

// refOf reads a reference out of a trace.
func refOf(text string) (ref types.ManagedObjectReference, err error) {
	if !ref.FromString(text) {
		err = errors.New("trace: want Type:ID of an object, not " + text)
	}
	return ref, err
}
