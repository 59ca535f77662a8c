package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"hyper2kvm/agent/api/model"
)

// Record is what is kept of a migration: what the API shows, and what the engine needs.
type Record struct {
	model.Migration

	Version int    `json:"version"`
	Task    Task   `json:"task"`
	Args    Args   `json:"args,omitzero"`
	Owner   string `json:"owner,omitempty"` // ID of the appliance that works on it, or did
	Epoch   uint64 `json:"epoch"`
	// Ask is what the owner is asked for: that it pauses, or gives up.
	Ask model.OperationKind `json:"ask,omitempty"`
	// Crashes counts how often in a row a worker was lost.
	Crashes int `json:"crashes,omitempty"`
	// NotBefore is when the task may be taken again.
	NotBefore time.Time `json:"notBefore,omitzero"`
	Requests  []Request `json:"requests"` // of its operations, by their order
	// AtOnce is how many of its batch run at once; 0 if any number does.
	AtOnce int `json:"atOnce,omitempty"`
}

// recordVersion is the version of the records that this program writes.
const recordVersion = 1

// Task is what is to be done with a migration.
type Task string

// The tasks. Clear takes away what a migration that was given up has left.
const (
	Migrate Task = "migrate"
	Clear   Task = "clear"
	Undo    Task = "undo"
	Verify  Task = "verify"
	Test    Task = "test"
)

// Args are a task's own.
type Args struct {
	AgainstSource bool              `json:"againstSource,omitempty"` // of Verify
	Test          model.TestRequest `json:"test,omitzero"`           // of Test
}

// Request tells a request that is sent again from another: see Order.
type Request struct {
	Key    string `json:"key,omitempty"`
	Digest string `json:"digest"`
}

// Order is a request for something to be done.
type Order struct {
	Kind   model.OperationKind
	By     string       // who asks for it
	Key    string       // by which the caller knows the request; it is done once
	Digest model.Digest // of the plan that is approved
	Args   Args
	// Revision is the one that the caller has seen; any if zero.
	Revision int64
}

// Errors that callers decide on.
var (
	ErrUnknown  = errors.New("no such migration")
	ErrExists   = errors.New("there is another migration of this ID")
	ErrReused   = errors.New("the idempotency key was used for something else")
	ErrChanged  = errors.New("the migration has changed meanwhile")
	ErrNotNow   = errors.New("not in this state")
	ErrTooLarge = errors.New("too large")
	ErrVersion  = errors.New("written by another version of this program")
)

// maxOperations is how many operations are kept of a migration.
const maxOperations = 50

// newRecord is a migration as it begins.
func newRecord(id string, s model.Spec, name, by, key string, now time.Time) Record {
	r := Record{Version: recordVersion, Task: Migrate, Migration: model.Migration{
		ID: id, Name: name, Created: now, Updated: now, By: by, State: model.StateQueued, Spec: s, Stages: []model.Stage{}}}
	r.note(Order{Kind: model.OperationKindMigrate, By: by, Key: key}, digest(s), now)
	return r
}

// note adds an operation, and returns it. The oldest that are done are forgotten.
func (r *Record) note(o Order, digest string, now time.Time) *model.Operation {
	number := 1
	if n := len(r.Operations); n > 0 {
		number = operationNumber(r.Operations[n-1].ID) + 1
	}
	if len(r.Operations) >= maxOperations {
		r.Operations, r.Requests = r.Operations[1:], r.Requests[1:]
	}
	r.Operations = append(r.Operations, model.Operation{ID: fmt.Sprintf("%s.%d", r.ID, number), Migration: r.ID, Kind: o.Kind, Asked: now, By: o.By})
	r.Requests = append(r.Requests, Request{Key: o.Key, Digest: digest})
	return &r.Operations[len(r.Operations)-1]
}

func operationNumber(id string) int {
	i := len(id)
	for i > 0 && id[i-1] != '.' {
		i--
	}
	n, _ := strconv.Atoi(id[i:]) // of our own making
	return n
}

// asked finds the operation of a request that was sent before. Operations of other
// callers never match: the key holds the caller's name.
func (r *Record) asked(key, digest string) (*model.Operation, error) {
	if key == "" {
		return nil, nil
	}
	i := slices.IndexFunc(r.Requests, func(q Request) bool { return q.Key == key })
	switch {
	case i < 0:
		return nil, nil
	case r.Requests[i].Digest != digest:
		return nil, ErrReused
	}
	return &r.Operations[i], nil
}

// end marks the operations that are not done as done. Those that asked for what did
// not happen have the problem.
func (r *Record) end(now time.Time, p model.Problem, verified []model.Verified) {
	for i := range r.Operations {
		o := &r.Operations[i]
		if o.Done {
			continue
		}
		o.Done, o.Ended, o.Problem = true, now, p
		if o.Kind == model.OperationKindVerify {
			o.Verified = verified
		}
	}
}

// ended tells whether nothing is to be done any more, unless somebody asks for it.
func (r *Record) ended() bool {
	return slices.Contains([]model.State{model.StateDone, model.StateFailed, model.StateCancelled}, r.State)
}

// converted tells whether there is a result.
func (r *Record) converted() bool {
	return r.Spec.Mode == "" || r.Spec.Mode == model.ModeMigrate
}

// digest is what tells contents apart.
func digest(v any) string {
	text, err := json.Marshal(v)
	if err != nil { // plain data has none
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// encode is the record as it is stored.
func (r Record) encode() ([]byte, error) {
	r.Revision = 0
	text, err := json.Marshal(r)
	if err == nil && len(text) > maxRecord {
		err = fmt.Errorf("%w: the migration's record would have %d bytes, and %d is the most", ErrTooLarge, len(text), maxRecord)
	}
	return text, err
}

// decode reads a record that is stored at a revision.
func decode(text []byte, revision uint64) (Record, error) {
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("a migration's record is damaged: %w", err)
	}
	if r.Version != recordVersion {
		return r, fmt.Errorf("%w: the record of %s is of version %d, and this one reads version %d", ErrVersion, r.ID, r.Version, recordVersion)
	}
	r.Revision = int64(revision)
	return r, nil
}

// Clone shares nothing with the record.
func (r Record) clone() Record {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	var c Record
	if err := json.Unmarshal(text, &c); err != nil {
		panic(err)
	}
	return c
}
