package dashboard

import (
	"time"

	"hyper2kvm/agent/api/model"
)

// Status is what there is to show.
type Status struct {
	Name        string // the appliance's
	Version     string
	Links       []Link // nil: not known yet
	LinkFault   string // why they are not known
	Listen      string // the address and port that browsers reach it at; "": none
	Fingerprint string // of its certificate, as browsers show it
	Agent       Health
	Code        Code
	Host        *model.Host // nil: not known yet
	Update      Update
	Jobs        Jobs
	Problems    []string // of first boot and of the settings
	Disk        Disk
	Shell       bool // the settings allow one
}

// Health is how the agent is.
type Health struct {
	Known   bool // it was asked
	Answers bool
	Since   time.Time // that it does not
	Why     string    // it does not, or is not ready
	Ended   string    // why it has ended, as far as it has said
}

// Code is the one-time code that makes the first admin.
type Code struct {
	State CodeState
	Text  string // if it is Made
	entry int64  // of the audit, that tells of it
}

// CodeState is how the first admin's code stands.
type CodeState int

// The states of a code.
const (
	CodeUnknown   CodeState = iota
	CodeNone                // somebody has or had access
	CodeMade                // here, and nobody has used it
	CodeElsewhere           // another one was made, which makes those before worthless
)

// Update is what there is to know of an update.
type Update struct {
	Text   string // "": nothing
	Failed bool
}

// Jobs are the migrations of the appliance and its fellows.
type Jobs struct {
	Running   []Job
	More      bool // run than are listed
	Waiting   map[model.State]int
	Uncounted bool // more wait than were counted
	Ended     []Job
}

// Job is one migration.
type Job struct {
	ID, Name string
	State    model.State
	Verdict  model.Verdict
	Stage    string
	Done     int64     // bytes of its disks that were dealt with, holes included
	Total    int64     // bytes of its disks; 0: not known
	At       time.Time // in the zone in which it is shown
	Why      string    // it failed
	Here     bool      // this appliance runs it, and not a fellow
}

// Disk is the file system that the agent's state is on.
type Disk struct {
	Path       string
	Size, Free int64  // bytes
	Fault      string // why they are not known
}

// here is how many migrations run on this appliance.
func (j Jobs) here() (n int) {
	for _, job := range j.Running {
		if job.Here {
			n++
		}
	}
	return n
}
