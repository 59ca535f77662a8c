package linux

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/md"
	"hyper2kvm/fixers/inspect"
)

// mdadmDevices lets mdadm find the members of arrays on KVM. It looks on all disks
// unless its settings name some; names of VMware's disks there become "partitions",
// which is all that the kernel knows. An ARRAY line that knows the array by its UUID
// loses the list of its disks, which is wrong on KVM. The names of arrays are stable
// and stay. An initrd's copies are the business of initrdDrivers.
//
// Source: mdadm.conf(5), DEVICE and ARRAY.
var mdadmDevices = fixer.Fixer{
	Name:    "linux/mdadm-devices",
	Why:     "mdadm looks for the members of arrays under names that do not exist on KVM, so the arrays are never found",
	Vital:   true,
	Applies: func(in fixer.Input) bool { return onLinux(in) && len(arrays(in)) > 0 },
	Plan: func(_ context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		concerns := arrayStates(in)
		for _, file := range inspect.MdadmConfigs {
			err := g.Edit(file, func(old []byte) ([]byte, error) {
				now, more := anyDevices(old, file)
				concerns = append(concerns, more...)
				return now, nil
			})
			if err != nil {
				return concerns, err
			}
		}
		return concerns, nil
	},
}

func arrays(in fixer.Input) []guest.Volume {
	return slices.DeleteFunc(slices.Clone(in.Facts.Topology.Volumes), func(v guest.Volume) bool { return v.Array == nil })
}

// arrayStates tells of arrays that are as they were on VMware, and not as they
// should be.
func arrayStates(in fixer.Input) (concerns []fixer.Concern) {
	add := func(level fixer.Level, code, text, try string) {
		concerns = append(concerns, fixer.Concern{Level: level, Code: code, Text: text, Try: try})
	}
	for _, v := range arrays(in) {
		a := v.Array
		if len(a.Stale) > 0 {
			add(fixer.Warning, "linux/array-member-fallen-out", fmt.Sprintf("%s fell out of the array %s on VMware: what is on it is old, and stays so", strings.Join(a.Stale, ", "), v.Name),
				"add it again in the guest: mdadm --manage --re-add")
		} else if a.Lacks > 0 {
			add(fixer.Warning, "linux/array-degraded", fmt.Sprintf("the array %s lacked %d members on VMware, and does on KVM", v.Name, a.Lacks), "add the disk that is missing, or a new one in the guest")
		}
		if a.Dirty && md.Redundant(a.Kind) {
			add(fixer.Info, "linux/array-not-shut-down", fmt.Sprintf("the array %s was not shut down on VMware: the guest brings its members in step when it starts on KVM", v.Name), "")
		}
	}
	return concerns
}

// anyDevices edits mdadm's settings.
func anyDevices(old []byte, file string) ([]byte, []fixer.Concern) {
	var concerns []fixer.Concern
	lines := splitLines(old)
	for _, l := range inspect.ParseMdadm(old) {
		at := l.Line - 1
		end := at + 1 // of the lines that go on with it
		for end < len(lines) && strings.IndexAny(lines[end], " \t") == 0 {
			end++
		}
		switch {
		case l.Is("DEVICE"):
			allDisks(lines[at:end])
		case l.Is("ARRAY") && knownOtherwise(l.Words):
			withoutDisks(lines[at:end])
		case l.Is("ARRAY") && slices.ContainsFunc(l.Words, listsDisks):
			concerns = append(concerns, arrayOfDisks(file, l))
		}
	}
	return joinLines(lines), concerns
}

// allDisks puts one word for all disks in place of the names of VMware's.
func allDisks(lines []string) {
	const all = "partitions"
	isAll := func(word string) bool { return word == all }
	for i, line := range lines {
		word := all
		if slices.ContainsFunc(lines, func(l string) bool { return has(l, isAll) }) {
			word = ""
		}
		for n, s := range slices.Backward(fields(line)) {
			if !onVMware(s.of(line)) {
				continue
			}
			if word != "" && !slices.ContainsFunc(fields(line)[:n], func(b span) bool { return onVMware(b.of(line)) }) {
				line = s.replace(line, word)
				continue
			}
			line = cut(line, s)
		}
		lines[i] = line
	}
}

func has(line string, is func(word string) bool) bool {
	return slices.ContainsFunc(fields(line), func(s span) bool { return is(s.of(line)) })
}

// cut takes a word from a line, and the blanks in front of it.
func cut(line string, s span) string {
	return strings.TrimRight(line[:s.start], " \t") + line[s.end:]
}

func withoutDisks(lines []string) {
	for i := range lines {
		for _, s := range slices.Backward(fields(lines[i])) {
			if listsDisks(s.of(lines[i])) {
				lines[i] = cut(lines[i], s)
			}
		}
	}
}

// ofVMware matches names and patterns of names that VMware's disks have.
var ofVMware = regexp.MustCompile(`^/dev/(\[|[sh]d|xvd|nvme|disk/by-path/|disk/by-id/(wwn|scsi|ata|nvme|ide)-)`)

// onVMware tells a name, or a pattern, by which a disk is not found on KVM.
func onVMware(name string) bool { return ofVMware.MatchString(name) }

func listsDisks(word string) bool {
	list, ok := strings.CutPrefix(strings.ToLower(word), "devices=")
	return ok && slices.ContainsFunc(strings.Split(list, ","), onVMware)
}

// knownOtherwise tells whether an ARRAY line has more than the list of its disks.
func knownOtherwise(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		key, _, _ := strings.Cut(strings.ToLower(w), "=")
		return slices.Contains([]string{"uuid", "name", "super-minor"}, key)
	})
}

func arrayOfDisks(file string, l inspect.MdadmLine) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/array-of-disks",
		Text:  fmt.Sprintf("%s:%d: the array %s is known by names of disks that change on KVM, and by nothing else", file, l.Line, l.Words[0]),
		Try:   "name it by its UUID in the guest (mdadm --detail --brief), and plan again",
	}
}
