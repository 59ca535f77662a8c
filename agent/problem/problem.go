// Package problem says what an error of the pipeline means to whoever asked for the
// work: a stable word to decide on, a sentence, and what to try. The command line makes
// its exit statuses of it, the API its problems.
package problem

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/backup"
	"hyper2kvm/agent/batch"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/agent/usb"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/testers/libvirt"
)

// Kind is what callers decide on.
type Kind string

// The kinds of problems.
const (
	Usage     Kind = "usage"      // the request is wrong
	BadInput  Kind = "bad-input"  // the source, the plan or the folder cannot be used as given
	Blocked   Kind = "blocked"    // a concern forbids the migration; nothing was converted
	NotProved Kind = "not-proved" // converted, but the result did not pass its boot test
	Differs   Kind = "differs"    // a disk is not as it was copied
	Full      Kind = "full"       // the storage is full
	Busy      Kind = "busy"       // another process works on it
	Failed    Kind = "failed"     // anything else
)

// ErrFull is a storage without room.
var ErrFull = errors.New("the storage is full")

var (
	// ErrPlan is a plan that cannot be applied.
	ErrPlan = errors.New("cannot use this plan")
	// ErrFolder is a folder that results cannot be put into.
	ErrFolder = errors.New("cannot use this folder; choose another")
)

// badInput are the errors that are ended by giving something else.
var badInput = []error{source.ErrBadInput, disk.ErrNotADisk, disk.ErrChain, disk.ErrTruncated, disk.ErrDamaged, disk.ErrEncrypted, disk.ErrDevice, disk.ErrInUse, ErrPlan, ErrFolder, pipeline.ErrRecord, pipeline.ErrBusy,
	pipeline.ErrSourceChanged, inspect.ErrNoOS, inspect.ErrManyRoots, guest.ErrConflict, guest.ErrKey, libvirt.ErrEmitted, config.ErrSettings, firstboot.ErrSeed, usb.ErrImage, usb.ErrStick, batch.ErrBatch, backup.ErrArchive, backup.ErrState, backup.ErrPassphrase}

// KindOf is the kind of an error.
func KindOf(err error) Kind {
	switch {
	case errors.Is(err, libvirt.ErrURI):
		return Usage
	case errors.Is(err, pipeline.ErrBlocked):
		return Blocked
	case errors.Is(err, pipeline.ErrNotProved):
		return NotProved
	case errors.Is(err, ErrFull), errors.Is(err, syscall.ENOSPC):
		return Full
	case errors.Is(err, pipeline.ErrBusy):
		return Busy
	case errors.Is(err, transfer.ErrDiffers):
		return Differs
	case slices.ContainsFunc(badInput, func(bad error) bool { return errors.Is(err, bad) }):
		return BadInput
	}
	return Failed
}

// Sentence is an error as one line for people. Packages that wrap one another's
// errors may each have said what kind of error it is: it is said once.
func Sentence(err error) string {
	what, try := split(err)
	if try != "" {
		what += "; " + try
	}
	return pipeline.Line(what) // a guest may have a say in it
}

// Of is an error as the API tells it.
func Of(err error) model.Problem {
	what, try := split(err)
	const status = http.StatusUnprocessableEntity
	return model.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: string(KindOf(err)), Detail: pipeline.Line(what), Try: try}
}

// split is what happened, and what to try about it as far as that is not said by then.
func split(err error) (what, try string) {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if errors.Is(err, ErrFull) {
		lines = lines[:1] // the others follow from it
	}
	what = strings.Join(lines, "; ")
	for _, kind := range badInput {
		if first, rest, ok := strings.Cut(what, kind.Error()+": "); ok {
			what = first + kind.Error() + ": " + strings.ReplaceAll(rest, kind.Error()+": ", "")
		}
	}
	return what, advice(err)
}

func advice(err error) string {
	var all []string
	if errors.Is(err, inspect.ErrNoOS) && !errors.Is(err, ErrFull) {
		all = append(all, "give the disk that the guest boots from, and the keys of what is encrypted (--key)")
	}
	if errors.Is(err, source.ErrBadInput) && errors.Is(err, fs.ErrPermission) {
		all = append(all, "give this user the right to read it, or run hyper2kvm as root")
	}
	if errors.Is(err, direct.ErrBroken) {
		all = append(all, "give the same command again, and if it happens again with --engine libguestfs into another folder")
	}
	return strings.Join(all, "; ")
}
