// Package fixer says what a fixer is. The fixers themselves are in the packages
// beside it, one file each; package fixers holds the list of them.
//
// Fixer: one reason to change a guest. Concern: something that the operator
// should know before anything is done.
package fixer

import (
	"context"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
)

// Input is what a fixer may know: what inspection found and what the source
// hypervisor says of the hardware.
type Input struct {
	Facts   inspect.Facts
	Machine machine.Machine
}

// Fixer is one reason to change a guest.
type Fixer struct {
	Name    string // stable: linux/fstab-names
	Why     string // one sentence for the reviewer
	Vital   bool   // without it the guest does not boot: its failure is a blocker
	Applies func(Input) bool
	// Plan records its edits in the view. It says what it saw and could not
	// mend as concerns; an error means that it could not do its work.
	Plan func(context.Context, *guest.View, Input) ([]Concern, error)
}

// Level is how much a concern matters.
type Level string

// The levels of concerns.
const (
	Blocker Level = "blocker" // the guest would not boot: the migration stops
	Warning Level = "warning" // the result is worse than asked
	Info    Level = "info"
)

// Concern is something that the operator should know before anything is done.
type Concern struct {
	Level Level  `json:"level"`
	Code  string `json:"code"`          // stable: linux/fstab-unknown-device
	Text  string `json:"text"`          // what was seen, and where
	Try   string `json:"try,omitempty"` // what to do about it
}
