// Package testers decides whether a guest that was booted on KVM is proved to
// work there. The machines are run by packages below it; what they observed
// comes here as values, and the verdict is a pure function of them.
//
// Tester: one question asked of a booted guest. Session: one machine from power
// on to its end, with or without the probe, as one or more boots. Outcome: the
// verdict, with every answer.
package testers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/probe"
)

// Expect is what the guest should be once it has booted.
type Expect struct {
	Hostname      string       `json:"hostname,omitempty"`       // not compared if empty
	MachineID     string       `json:"machine_id,omitempty"`     // not compared if empty
	Roots         []string     `json:"roots,omitempty"`          // serials of the disks that / lies on; any expected disk if empty
	RootUUID      string       `json:"root_uuid,omitempty"`      // of the file system at /; not compared if empty
	RootSubvolume uint64       `json:"root_subvolume,omitempty"` // ID of the btrfs subvolume at /; not compared if zero
	ReadOnly      bool         `json:"read_only,omitempty"`      // / is not meant to be written to
	Disks         []Disk       `json:"disks"`
	Mounts        []Mount      `json:"mounts,omitempty"` // but /
	Swaps         int          `json:"swaps,omitempty"`  // least number of block devices that are swapped to
	NICs          []lan.Expect `json:"nics"`
	MayFail       []string     `json:"may_fail,omitempty"` // units whose failure was there before the migration
	Damaged       []string     `json:"damaged,omitempty"`  // devices whose file systems were damaged before the migration
}

// Disk is a disk that the guest must find.
type Disk struct {
	Serial string `json:"serial"`
	Size   int64  `json:"size,omitempty"` // bytes; not compared if zero
}

// Filesystem is a file system of the guest as its own checker found it before the
// machine was started: clean, damaged, or neither, when it was not checked.
type Filesystem struct {
	Device  string `json:"device"`
	Type    string `json:"type"`
	Clean   bool   `json:"clean"`
	Damaged bool   `json:"damaged"`
	Text    string `json:"text,omitempty"` // the checker's complaint, or why it was not asked
}

// Mount is a file system of the disks that the guest must have mounted.
type Mount struct {
	Path      string `json:"path"`
	UUID      string `json:"uuid,omitempty"`      // of the file system; not compared if empty
	Subvolume uint64 `json:"subvolume,omitempty"` // ID of a btrfs's; not compared if zero
	ReadOnly  bool   `json:"read_only,omitempty"` // it is not meant to be written to
}

// End is how a session ended.
type End string

// The ends of a session. Done is the only good one.
const (
	Done     End = "done"     // all that was to be seen was seen; the machine still ran
	Stopped  End = "stopped"  // the guest shut itself down
	Panicked End = "panicked" // the guest's kernel said so through pvpanic
	Failed   End = "failed"   // a text on serial or screen says that the boot is over
	Hung     End = "hung"     // nothing changed any more
	Overdue  End = "overdue"  // the deadline passed
	Died     End = "died"     // the machine itself ended
	Refused  End = "refused"  // the hypervisor did not take the machine
)

// Session is what was observed of one machine.
type Session struct {
	Probe       bool          `json:"probe"` // the overlay held the probe
	By          string        `json:"by"`    // what ran the machine
	Accel       string        `json:"accel"` // kvm or tcg
	Started     time.Time     `json:"started"`
	Took        time.Duration `json:"took"` // nanoseconds
	Boots       []Boot        `json:"boots"`
	Events      []qmp.Event   `json:"events"`
	Forged      int           `json:"forged"` // reports that were not authentic
	End         End           `json:"end"`
	Detail      string        `json:"detail,omitempty"`      // of the end, for people
	LastWords   string        `json:"last_words"`            // of the serial console and the text screen
	Differences []string      `json:"differences"`           // from the emitted hardware
	Screens     []string      `json:"screens,omitempty"`     // file names in the evidence folder
	LostEvents  int64         `json:"lost_events"`           // that were too many to read
	SerialBytes int64         `json:"serial_bytes"`          // that the guest wrote
	Filesystems []Filesystem  `json:"filesystems,omitempty"` // of the overlay with the probe
	RebootAsked time.Time     `json:"reboot_asked,omitzero"` // when the probe was told to reboot
	Watch       time.Duration `json:"watch"`                 // nanoseconds that its last boot is watched for once it is up
}

// Boot is one boot of a session: from power on or a reset to the next one.
type Boot struct {
	At      time.Time        `json:"at"`
	Reports []probe.Received `json:"reports,omitempty"` // authentic, oldest first
	Network []lan.Witness    `json:"network"`           // one for each NIC, from outside
	Signs   []Sign           `json:"signs,omitempty"`
	Up      time.Time        `json:"up,omitzero"` // since when all is well; zero while it is not
	Seen    time.Time        `json:"seen"`        // the last look at it
}

// Last is the newest authentic report of a boot; ok is false if there is none.
func (b Boot) Last() (r probe.Received, ok bool) {
	if len(b.Reports) == 0 {
		return r, false
	}
	return b.Reports[len(b.Reports)-1], true
}

// Answer is what a tester found.
type Answer struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Evidence string `json:"evidence"` // a sentence
}

// Outcome is the verdict on a guest.
type Outcome struct {
	Proved    bool     `json:"proved"`
	By        string   `json:"by,omitempty"`    // what ran the tested machine
	Cause     string   `json:"cause,omitempty"` // the first answer that is not OK
	Answers   []Answer `json:"answers"`
	LastWords string   `json:"last_words,omitempty"` // of the session that failed
	// Unasked is what the proof leaves open, because nothing was known to ask.
	Unasked []string `json:"unasked"`
	// Differences are where the tested machine was not the emitted domain.
	Differences []string `json:"differences"`
}

// Judge asks every tester. A guest is proved only if all answers are good.
func Judge(e Expect, probed, clean Session) Outcome {
	o := Outcome{Proved: true, By: probed.By, Unasked: unasked(e, probed), Differences: probed.Differences}
	for _, t := range All() {
		ok, evidence := t.ask(e, probed, clean)
		o.Answers = append(o.Answers, Answer{Name: t.Name, OK: ok, Evidence: evidence})
		if !ok && o.Proved {
			o.Proved = false
			o.Cause = t.Name + ": " + evidence
		}
	}
	if !o.Proved {
		o.LastWords = lastWords(probed, clean)
	}
	return o
}

// unasked is what the cards are configured for and is not asked, and the cards of
// which no address is expected: a guest whose configuration was not understood
// would pass without its network. Of a file system that was not checked nothing is
// known either.
func unasked(e Expect, probed Session) []string {
	var open []string
	for _, n := range e.NICs {
		for _, u := range n.Unasked {
			open = append(open, fmt.Sprintf("the network of %s: %s", n.MAC, u))
		}
		if !n.DHCP && len(n.Static)+len(n.Unasked) == 0 {
			open = append(open, fmt.Sprintf("the network of %s: no configuration with an address was found for it in the guest", n.MAC))
		}
	}
	if len(e.NICs) == 0 {
		open = append(open, "the network: the machine has no card")
	}
	for _, f := range probed.Filesystems {
		if !f.Clean && !f.Damaged {
			open = append(open, fmt.Sprintf("the structure of %s (%s): %s", f.Device, f.Type, f.Text))
		}
	}
	return open
}

func lastWords(probed, clean Session) string {
	if probed.End != Done || clean.End == Done {
		return probed.LastWords
	}
	return clean.LastWords
}

// Settled tells whether a boot with the probe has shown all that one boot must
// show, so that there is nothing more to wait for.
func Settled(e Expect, b Boot) bool {
	r, ok := b.Last()
	if !ok || r.State == "starting" || r.State == "initializing" {
		return false
	}
	return Unwell(e, b) == ""
}

// Unwell is the first thing that a boot with the probe did not show, or "".
func Unwell(e Expect, b Boot) string {
	for _, ask := range perBoot {
		if good, seen := ask(e, b); !good {
			return seen
		}
	}
	return ""
}

// Unwitnessed is what a boot without the probe has not shown of all that it can,
// or "": its addresses answer, or it asks for a login if it has none.
func Unwitnessed(e Expect, b Boot) string {
	ok, seen := comesUp(e, b)
	if ok {
		return ""
	}
	return seen
}

// comesUp judges a boot from outside alone.
func comesUp(e Expect, b Boot) (bool, string) {
	if sign, failed := Fatal(b.Signs); failed {
		return false, sign.String()
	}
	if hasAddresses(e) {
		return networkWitnessed(e, b)
	}
	for _, s := range b.Signs {
		if s.Name == LoginPrompt {
			return true, s.String()
		}
	}
	return false, "no address is expected, and no login prompt was seen on serial or screen"
}

// FirstWitnessed is when the last of the expected addresses answered; zero as
// long as one is missing, and where none is expected.
func FirstWitnessed(e Expect, b Boot) time.Time {
	if ok, _ := networkWitnessed(e, b); !ok || !hasAddresses(e) {
		return time.Time{}
	}
	var last time.Time
	for _, w := range b.Network {
		for _, a := range w.Answering {
			if a.How != "ping" && a.At.After(last) {
				last = a.At
			}
		}
	}
	return last
}

// Cause is why a boot does not come up, as far as it can be told.
func Cause(b Boot) string {
	_, cause := targetReached(Expect{}, b)
	return cause
}

func hasAddresses(e Expect) bool {
	return slices.ContainsFunc(e.NICs, func(n lan.Expect) bool { return n.DHCP || len(n.Static) > 0 })
}

func sentence(parts []string) string { return strings.Join(parts, "; ") }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
