package worker

import (
	"errors"
	"strings"

	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/spec"
	"hyper2kvm/pipeline"
)

// Disks lends attached disks, by their IDs, as they were chosen.
type Disks interface {
	// Source is the path of one that holds a guest.
	Source(id string) (string, error)
	// Target is the path of one that a migration writes to, and whether what is on it
	// may be lost.
	Target(id, migration string) (path string, erase bool, err error)
}

// errNoDisks is an agent that knows no disks.
var errNoDisks = errors.New("this program knows no attached disks")

// disksName is how a migration's record names a guest on attached disks.
func disksName(ids []string) string { return "disk:" + strings.Join(ids, ",") }

// lend has a job get its disks: the paths of the source's are told, and the target's are
// in the options. What is done with a result that is there knows its disks by the record.
func (w *Worker) lend(j engine.Job, o *pipeline.Options) (from []string, err error) {
	source, target := neededDisks(j, o)
	if len(source)+len(target) > 0 && w.Disks == nil {
		return nil, errNoDisks
	}
	for _, id := range source {
		path, err := w.Disks.Source(id)
		if err != nil {
			return nil, err
		}
		from = append(from, path)
	}
	for i, id := range target {
		path, erase, err := w.Disks.Target(id, j.ID)
		if err != nil {
			return nil, err
		}
		if o.Devices == nil {
			o.Devices = map[int]string{}
		}
		o.Devices[i], o.Overwrite = path, o.Overwrite || erase
	}
	return from, nil
}

// neededDisks are those that a task reads, and those that it writes.
func neededDisks(j engine.Job, o *pipeline.Options) (source, target []string) {
	switch {
	case j.Task == engine.Migrate && (o.Until != "" || o.Skip["convert"] != ""):
		return spec.Disks(j.Spec.Source), nil
	case j.Task == engine.Migrate:
		return spec.Disks(j.Spec.Source), spec.TargetDisks(j.Spec.Target)
	case j.Task == engine.Verify && j.Args.AgainstSource:
		return spec.Disks(j.Spec.Source), nil
	}
	return nil, nil
}
