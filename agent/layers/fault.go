package layers

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Fault is what is wrong at one place. As an error it is one line: file, line, field,
// and what to do.
type Fault struct {
	Origin
	Path  string // of the field, such as storages[1].path; may be empty
	Words string
}

func (f Fault) Error() string {
	var parts []string
	if f.File != "" {
		parts = append(parts, f.Origin.String())
	}
	if f.Path != "" {
		parts = append(parts, f.Path)
	}
	return strings.Join(append(parts, f.Words), ": ")
}

// Faults are one error, of a line each.
type Faults []Fault

// shown is how many of many faults are told of.
const shown = 20

func (f Faults) Error() string {
	var lines []string
	for _, fault := range f[:min(len(f), shown)] {
		lines = append(lines, fault.Error())
	}
	if more := len(f) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d faults more", more))
	}
	return strings.Join(lines, "\n")
}

// Err is nil if there are none. They are in the order of their files' names and lines.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Path, b.Path))
	})
	return f
}

// Fault is what is wrong with the value at a path.
func (v *Value) Fault(path []string, format string, args ...any) Fault {
	return Fault{Origin: v.At(path...).Origin, Path: PathOf(path), Words: fmt.Sprintf(format, args...)}
}

var (
	plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	index     = regexp.MustCompile(`^[0-9]+$`)
)

// PathOf writes a path as people do: storages[1].path.
func PathOf(path []string) string {
	var b strings.Builder
	for _, s := range path {
		switch {
		case index.MatchString(s):
			b.WriteString("[" + s + "]")
		case b.Len() > 0:
			b.WriteString("." + step(s))
		default:
			b.WriteString(step(s))
		}
	}
	return b.String()
}

// step is a field's name, quoted if it needs be, and not longer than a line.
func step(name string) string {
	if plainName.MatchString(name) && len(name) <= 64 {
		return name
	}
	return fmt.Sprintf("%.64q", name)
}
