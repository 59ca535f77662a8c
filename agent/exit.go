package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/problem"
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

var errUsage = errors.New("wrong command line")

func exitStatus(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, errUsage), errors.Is(err, client.ErrOptions):
		return exitUsage
	}
	return statuses[kindOf(err)]
}

// statuses are the exit statuses of each kind of problem.
var statuses = map[problem.Kind]int{
	problem.Usage: exitUsage, problem.BadInput: exitBadInput, problem.Busy: exitBadInput, problem.Blocked: exitBlocked, problem.NotProved: exitNotProved,
	problem.Full: exitFailed, problem.Differs: exitFailed, problem.Failed: exitFailed,
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
