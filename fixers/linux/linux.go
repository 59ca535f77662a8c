// Package linux holds the fixers of Linux guests, one file each, named after
// the fixer. They edit files alone: no program of the guest is run.
package linux

import "hyper2kvm/fixers/fixer"

// Fixers are the Linux fixers in their order.
var Fixers = []fixer.Fixer{}
