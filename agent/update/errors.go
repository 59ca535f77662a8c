package update

import "errors"

// Errors that callers decide on. What is around them is a sentence that says what to do.
var (
	// ErrArchive is an archive that is no update for this appliance.
	ErrArchive = errors.New("this is no update for this appliance")
	// ErrVersion is an archive of a version that is not later than the one that runs.
	ErrVersion = errors.New("this version is not later than the one that runs")
	// ErrCannot is an appliance that takes no updates as it is.
	ErrCannot = errors.New("this appliance takes no updates")
	// ErrBusy is an update beside another one.
	ErrBusy = errors.New("another update is being installed")
)
