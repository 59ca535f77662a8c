package worker

import (
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/pipeline"
)

// order is what a runner is asked to do.
type order struct {
	Task        engine.Task
	ID          string // of the migration
	Name        string
	Folder      string // absolute
	Version     string
	Options     pipeline.Options
	Limits      []string
	Keys        []key
	VM          *VM          // that the guest is brought from, if the task needs it
	Disks       []string     // paths of the attached disks that the guest is on, if it is
	Hold        bool         // before FIX, until the plan is approved
	Digest      model.Digest // of the plan that was approved
	Args        engine.Args
	Hooks       []hook
	HooksFolder string        // of their programs
	HooksUser   string        // whom these run as
	Lease       time.Duration // how long it may go on without hearing from the agent
	Group       string        // folder of its control group; "" if it has none of its own
}

// looks tells of an order that makes nothing.
func (o order) looks() bool { return o.Task == engine.Migrate && o.Options.Until != "" }

// key is a guest.Key whose secrets are not hidden: it goes through the runner's socket
// alone.
type key struct {
	For     string
	Secrets [][]byte
}

// word is what the agent says to a runner afterwards.
type word struct {
	Lease time.Duration `json:",omitempty"` // it may go on for so long from now on
	Stop  bool          `json:",omitempty"` // it is to come to an end that can be gone on from
}

// report is what a runner says.
type report struct {
	Update *engine.Update `json:",omitempty"`
	End    *end           `json:",omitempty"`
}

// end is how a runner's task ended.
type end struct {
	Result   engine.Result
	Problem  *model.Problem `json:",omitempty"`
	Stopped  bool           `json:",omitempty"` // as it was asked to
	Occupied bool           `json:",omitempty"` // another process works in the folder
}
