package linux

import (
	"bytes"
	"strings"
)

// splitLines cuts text into lines that keep their line ends, so that joined
// they are the text again.
func splitLines(text []byte) []string {
	return strings.SplitAfter(string(text), "\n")
}

func joinLines(lines []string) []byte {
	return []byte(strings.Join(lines, ""))
}

// lineEnd is how the lines of a text end.
func lineEnd(text []byte) string {
	if bytes.Contains(text, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// span is part of a line: from start up to end.
type span struct{ start, end int }

func (s span) of(line string) string { return line[s.start:s.end] }

// replace puts text in the place of a part of the line.
func (s span) replace(line, text string) string { return line[:s.start] + text + line[s.end:] }

// fields are the parts of a line between blanks, as in fstab and crypttab;
// none for a comment.
func fields(line string) []span {
	var found []span
	start := -1
	for i, c := range []byte(line + "\n") {
		blank := strings.IndexByte(" \t\r\n", c) >= 0
		switch {
		case !blank && start < 0:
			start = i
		case blank && start >= 0:
			found = append(found, span{start, i})
			start = -1
		}
	}
	if len(found) > 0 && line[found[0].start] == '#' {
		return nil
	}
	return found
}
