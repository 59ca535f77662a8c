package linux

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// toolsList is the database of VMware's own installer: what it put where, and
// what it answered to its own questions. It is only ever appended to, so that
// the last word on a name counts.
//
// Source: vmware-install.pl and vmware-config-tools.pl of VMware Tools 8 to 10,
// db_load and db_add_file; the latter's modules write a file's tags behind its
// time.
type toolsList struct {
	files    []string         // in the order in which they were installed
	times    map[string]int64 // of those whose time of change was noted, Unix
	answers  map[string]string
	modified map[string]bool // configuration that was found changed by the user
}

// maxListed bounds the files of a list; the largest that VMware shipped install
// some two thousand.
const maxListed = 20_000

// parseLocations reads the database. Lines that it does not know are left out.
func parseLocations(data []byte) toolsList {
	l := toolsList{times: map[string]int64{}, answers: map[string]string{}, modified: map[string]bool{}}
	listed := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		verb, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		switch verb {
		case "file":
			name, time := fileAndTime(rest)
			if _, known := listed[name]; !known && len(l.files) < maxListed {
				l.files = append(l.files, name)
			}
			listed[name] = true
			delete(l.times, name)
			if time > 0 {
				l.times[name] = time
			}
		case "remove_file":
			listed[rest] = false
			delete(l.times, rest)
		case "answer":
			key, value, _ := strings.Cut(rest, " ")
			l.answers[key] = value
		case "remove_answer":
			delete(l.answers, rest)
		case "modified":
			l.modified[rest] = true
		}
	}
	l.files = slices.DeleteFunc(l.files, func(name string) bool { return !listed[name] })
	return l
}

// fileAndTime splits what follows "file": a name that may hold blanks, perhaps a
// time, and behind that perhaps tags.
func fileAndTime(s string) (name string, time int64) {
	for _, ends := range []int{0, 1} { // words behind the time
		head := s
		for range ends {
			i := strings.LastIndexByte(head, ' ')
			if i < 0 {
				return s, 0
			}
			head = head[:i]
		}
		i := strings.LastIndexByte(head, ' ')
		if i <= 0 {
			return s, 0
		}
		if t, err := strconv.ParseInt(head[i+1:], 10, 64); err == nil && t >= 0 {
			return head[:i], t
		}
	}
	return s, 0
}

// saved is a file that the installer put aside for one of its own.
type saved struct{ name, backup string }

const savedSuffix = ".BeforeVMwareToolsInstall"

// saves are the files that the installer says it put aside.
func (l toolsList) saves() []saved {
	var all []saved
	for key := range strings.SplitSeq(l.answers["RESTORE_BACK_LIST"], ":") {
		s := saved{l.answers["RESTORE_"+key], l.answers["RESTORE_"+key+"_BAK"]}
		if s.name != "" && path.Base(s.backup) == path.Base(s.name)+savedSuffix && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}
