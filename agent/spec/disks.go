package spec

import (
	"fmt"
	"slices"

	"hyper2kvm/agent/api/model"
)

// Disks are the attached disks that a guest is on, in its order; nil if it is on none.
func Disks(s model.Source) []string { return disks(s.Disk, s.Disks) }

// TargetDisks are the attached disks that a guest's disks are written to, in its order;
// nil if they go into files.
func TargetDisks(t model.Target) []string { return disks(t.Disk, t.Disks) }

func disks(one string, several []string) []string {
	switch {
	case one != "":
		return []string{one}
	case len(several) > 0:
		return several
	}
	return nil
}

// checkDisks holds a list of disks to one way of writing it, and each disk to one place.
func checkDisks(list []string, one string, several []string, where string) (problems []Problem) {
	if one != "" && several != nil {
		problems = append(problems, Problem{[]string{where, "disks"}, "is there beside disk: write one of them"})
	}
	for i, id := range list {
		if slices.Contains(list[:i], id) {
			problems = append(problems, Problem{[]string{where, "disks", fmt.Sprint(i)}, "is there twice"})
		}
	}
	return problems
}

// fileOrVM is what is wrong with a source that is on disks, and is something else too.
func fileOrVM(s model.Source) []Problem {
	if s.Storage == "" && s.Path == "" && s.Vsphere.Server == "" {
		return nil
	}
	return []Problem{{[]string{"source"}, "is a disk, and a file or a VM: write one of them"}}
}

func checkTargetDisks(s model.Spec) (problems []Problem) {
	list := TargetDisks(s.Target)
	problems = checkDisks(list, s.Target.Disk, s.Target.Disks, "target")
	if list != nil && s.Target.Format != "" && s.Target.Format != model.TargetFormatQcow2 && s.Target.Format != model.TargetFormatRaw { // qcow2 is what it is if nobody says
		problems = append(problems, Problem{[]string{"target", "format"}, "is of files: what goes to a disk is there as it is"})
	}
	for _, id := range list {
		if slices.Contains(Disks(s.Source), id) {
			problems = append(problems, Problem{[]string{"target"}, "is the source, which is never written: " + id})
		}
	}
	return problems
}
