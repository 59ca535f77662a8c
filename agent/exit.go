package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/batch"
	"hyper2kvm/agent/config"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/testers/libvirt"
)

// Exit statuses. They are part of the interface: scripts decide on them.
const (
	exitOK          = 0
	exitFailed      = 1 // the conversion, or anything else, went wrong
	exitUsage       = 2
	exitBadInput    = 3
	exitBlocked     = 4
	exitNotProved   = 5
	exitInterrupted = 130
)

const exitHelp = `Exit status:
    0  done; for migrate, rehearse, apply and test: proved to boot
    1  failed: the conversion did not come to its end
    2  the command line is wrong
    3  bad input: the source or the folder cannot be used as given
    4  blocked: a concern forbids the migration; nothing was converted
    5  not proved: converted, but the result did not pass its boot test
  130  interrupted; the same command goes on where it was`

var (
	errUsage  = errors.New("wrong command line")
	errPlan   = errors.New("cannot use this plan")
	errFolder = errors.New("cannot use this folder; choose another with --to")
	errFull   = errors.New("the storage is full")
)

// badInput are the errors that the operator ends by giving something else.
var badInput = []error{source.ErrBadInput, disk.ErrNotADisk, disk.ErrChain, disk.ErrTruncated, disk.ErrDamaged, disk.ErrEncrypted, disk.ErrDevice, disk.ErrInUse, errPlan, errFolder, pipeline.ErrRecord, pipeline.ErrBusy,
	pipeline.ErrSourceChanged, inspect.ErrNoOS, inspect.ErrManyRoots, guest.ErrConflict, guest.ErrKey, libvirt.ErrEmitted, config.ErrSettings, batch.ErrBatch}

func exitStatus(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, errUsage), errors.Is(err, libvirt.ErrURI):
		return exitUsage
	case errors.Is(err, pipeline.ErrBlocked):
		return exitBlocked
	case errors.Is(err, pipeline.ErrNotProved):
		return exitNotProved
	case errors.Is(err, errFull), errors.Is(err, syscall.ENOSPC):
		return exitFailed
	}
	for _, bad := range badInput {
		if errors.Is(err, bad) {
			return exitBadInput
		}
	}
	return exitFailed
}

// sentence is an error as one line for people. Packages that wrap one another's
// errors may each have said what kind of error it is: it is said once.
func sentence(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if errors.Is(err, errFull) {
		lines = lines[:1] // the others follow from it
	}
	text := strings.Join(lines, "; ")
	for _, kind := range badInput {
		first, rest, ok := strings.Cut(text, kind.Error()+": ")
		if ok {
			text = first + kind.Error() + ": " + strings.ReplaceAll(rest, kind.Error()+": ", "")
		}
	}
	if errors.Is(err, inspect.ErrNoOS) && !errors.Is(err, errFull) {
		text += "; give the disk that the guest boots from, and --key for what is encrypted"
	}
	if errors.Is(err, source.ErrBadInput) && errors.Is(err, fs.ErrPermission) {
		text += "; give this user the right to read it, or run hyper2kvm as root"
	}
	if errors.Is(err, direct.ErrBroken) {
		text += "; give the same command again, and if it happens again with --engine libguestfs into another folder"
	}
	return pipeline.Line(text) // a guest may have a say in it
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: %q is one argument too many", errUsage, args[0])
	}
	return nil
}

// oneArg takes exactly one argument and names it when it is missing.
func oneArg(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%w: %s takes one %s, not %d: see hyper2kvm %s --help", errUsage, c.Name(), name, len(args), c.Name())
		}
		return nil
	}
}
