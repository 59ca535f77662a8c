package linux

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
)

// toolsPackage finds a package that brings VMware's tools.
func toolsPackage(in fixer.Input) (string, bool) {
	for _, l := range in.Facts.VMware {
		if l.Kind == "package" && packagedTools.MatchString(l.Name) {
			return l.Name, true
		}
	}
	return "", false
}

var packagedTools = regexp.MustCompile(`(?i)^(open-vm-tools|vmware-?tools)`)

func packagedSince(name string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Info,
		Code:  "linux/vmware-tools-packaged",
		Text:  fmt.Sprintf("%s lists the files of VMware's own installer, but the package %s has brought the tools since: none is removed, they are only kept from starting", toolsListFile, name),
		Try:   "remove the package in the guest once it runs on KVM",
	}
}

// concerns says what stays, and why.
func (t *tarball) concerns() []fixer.Concern {
	var why []string
	foreign := slices.DeleteFunc(t.foreign, func(name string) bool { // what was put aside is back
		return slices.ContainsFunc(t.removed, func(f toolsFile) bool { return f.name == name })
	})
	if n := len(t.left); n > 0 {
		var size int64
		for _, f := range t.left {
			size += f.info.Size
		}
		why = append(why, fmt.Sprintf("%d files with %d MiB in folders such as %s, which do nothing by themselves and are too much to be kept for undo", n, size>>20, path.Dir(t.left[0].at)))
	}
	if n := len(t.changed); n > 0 {
		why = append(why, fmt.Sprintf("%d that were changed since, such as %s", n, t.changed[0].at))
	}
	if n := len(foreign); n > 0 {
		why = append(why, fmt.Sprintf("%d that are not VMware's alone by their names, such as %s", n, foreign[0]))
	}
	if len(why) == 0 {
		return nil
	}
	c := fixer.Concern{
		Level: fixer.Info,
		Code:  "linux/vmware-tools-left",
		Text:  fmt.Sprintf("of the files that %s lists there stay: %s", toolsListFile, strings.Join(why, "; ")),
	}
	if t.keep != "" {
		c.Try = "run " + t.keep + " in the guest to remove them"
	}
	return []fixer.Concern{c}
}
