package inspect

import (
	"strings"
)

// Variable is one assignment of a file in the shell's syntax.
type Variable struct {
	Line  int // from 1
	Name  string
	Value string // without quotes
}

// ParseSysconfig reads the assignments of a file that initscripts and wicked
// take for one in the shell's syntax. What the shell would have to work out, an
// expansion or a quote that goes on in the next line, is left out: its value is
// not known.
//
// Source: bash(1), QUOTING; NetworkManager's shvar.c, svUnescape.
func ParseSysconfig(data []byte) []Variable {
	var all []Variable
	for n, line := range splitLines(data) {
		line = strings.TrimPrefix(strings.TrimLeft(line, " \t"), "export ")
		name, rest, ok := strings.Cut(line, "=")
		if !ok || !isVariable(name) {
			continue
		}
		if value, ok := shellWord(rest); ok {
			all = append(all, Variable{n + 1, name, value})
		}
	}
	return all
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// shellWord is the word that a text begins with, its quotes removed; not ok
// when the shell would have to run something or to read on.
func shellWord(text string) (word string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', ';', '\r':
			return b.String(), true
		case '\'', '"':
			end := closing(text, i)
			if end < 0 {
				return "", false
			}
			quoted := text[i+1 : end]
			if c == '"' && strings.ContainsAny(quoted, "$`") {
				return "", false
			}
			if c == '"' {
				quoted = doubleQuoted.Replace(quoted)
			}
			b.WriteString(quoted)
			i = end
		case '\\':
			if i++; i == len(text) {
				return "", false
			}
			b.WriteByte(text[i])
		case '$', '`', '|', '&', '(', ')', '<', '>':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// doubleQuoted drops the backslashes that mean something between double quotes.
var doubleQuoted = strings.NewReplacer(`\\`, `\`, `\"`, `"`)

// closing is where the quote at i ends, or -1.
func closing(text string, i int) int {
	for end := i + 1; end < len(text); end++ {
		switch {
		case text[end] == text[i]:
			return end
		case text[end] == '\\' && text[i] == '"':
			end++
		}
	}
	return -1
}

// sysconfig is a file of assignments, of each variable the last.
type sysconfig struct {
	value map[string]string
	line  map[string]int
}

// sysconfig reads a file of assignments; one that is not there is empty.
func (t *files) sysconfig(name string) sysconfig {
	data, _ := t.read(name, maxConfig)
	return sysconfigOf(data)
}

func sysconfigOf(data []byte) sysconfig {
	c := sysconfig{map[string]string{}, map[string]int{}}
	for _, v := range ParseSysconfig(data) {
		c.value[v.Name], c.line[v.Name] = v.Value, v.Line
	}
	return c
}

// first is the first of the variables that is set and not empty.
func (c sysconfig) first(names ...string) string {
	for _, n := range names {
		if c.value[n] != "" {
			return c.value[n]
		}
	}
	return ""
}

// at is where one of the variables is set, or the file alone.
func (c sysconfig) at(file string, names ...string) string {
	for _, n := range names {
		if c.line[n] > 0 {
			return at(file, c.line[n])
		}
	}
	return file
}
