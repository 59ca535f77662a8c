package call

import (
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
)

// failure is an error of the other process's: what it says, and which of the errors
// that callers decide on it wraps.
type failure struct {
	Text  string
	Errno unix.Errno
	Kinds []int // places in the list of known errors

	known []error
}

// known are the errors that are the same on both sides, and those that the package
// whose calls these are has of its own.
func known(own []error) []error {
	return append([]error{fs.ErrNotExist, fs.ErrExist, fs.ErrClosed, errors.ErrUnsupported, guest.ErrTooBig, guest.ErrNotRegular, guest.ErrNotWhole, guest.ErrTable}, own...)
}

func failureOf(err error, known []error) *failure {
	f := &failure{Text: err.Error()}
	for i, k := range known {
		if errors.Is(err, k) {
			f.Kinds = append(f.Kinds, i)
		}
	}
	f.Errno, _ = errors.AsType[unix.Errno](err)
	return f
}

func (f *failure) Error() string { return f.Text }

// Is tells whether the other process's error was target.
func (f *failure) Is(target error) bool {
	if f.Errno != 0 && (target == f.Errno || f.Errno.Is(target)) {
		return true
	}
	i := slices.Index(f.known, target)
	return i >= 0 && slices.Contains(f.Kinds, i)
}
