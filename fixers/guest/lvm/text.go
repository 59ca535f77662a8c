package lvm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Setting is one assignment of LVM's configuration format.
type Setting struct {
	Name       string   // with the sections that it is in: devices/filter
	Values     []string // the elements of a list, or the one value; texts without quotes
	Start, End int      // of the value in the text
}

// Settings are the assignments of a configuration file, in order. Of several with
// one name LVM takes the last. The error wraps ErrMetadata.
//
// Source: lvm.conf(5).
func Settings(text []byte) ([]Setting, error) {
	s, err := parseText(text)
	if err != nil {
		return nil, err
	}
	return s.flat(""), nil
}

// section is a part of the text in braces: settings, and sections in it.
type section struct {
	name     string
	sections []*section
	settings []Setting
	end      int // of what is in it: where its closing brace stands
}

func (s *section) flat(prefix string) []Setting {
	var all []Setting
	for _, set := range s.settings {
		set.Name = prefix + set.Name
		all = append(all, set)
	}
	for _, inner := range s.sections {
		all = append(all, inner.flat(prefix+inner.name+"/")...)
	}
	return all
}

// Bounds of the text's form; LVM's own is three sections deep.
const (
	maxDepth = 8
	maxNames = 100_000
)

// parseText reads LVM's configuration format: name = value, name = [list],
// name { … }, and comments from # to the end of a line.
//
// Source: lvm.conf(5); LVM2 libdm/libdm-config.c.
func parseText(text []byte) (*section, error) {
	p := &parser{text: string(text), size: len(text)}
	s, err := p.section(0)
	if err != nil {
		return nil, fmt.Errorf("%w: byte %d of its text: %w", ErrMetadata, p.at(), err)
	}
	return s, nil
}

type parser struct {
	text  string // what is not read yet
	size  int    // of the whole text
	names int    // and elements of lists, so far
}

// at is how far the text is read.
func (p *parser) at() int { return p.size - len(p.text) }

// section reads up to the brace that ends it, or to the end of the text.
func (p *parser) section(depth int) (*section, error) {
	s := &section{}
	for {
		switch name := p.token(); {
		case name == "" && depth == 0:
			return s, nil
		case name == "}" && depth > 0:
			s.end = p.at() - 1
			return s, nil
		case name == "" || !isWord(name[0]):
			return nil, fmt.Errorf("%q where a name was expected", name)
		default:
			if err := p.entry(s, name, depth); err != nil {
				return nil, err
			}
		}
	}
}

// entry reads what follows a name.
func (p *parser) entry(s *section, name string, depth int) (err error) {
	if p.names++; p.names > maxNames || depth > maxDepth {
		return fmt.Errorf("%d names, %d sections deep", p.names, depth)
	}
	switch sign := p.token(); sign {
	case "{":
		var inner *section
		if inner, err = p.section(depth + 1); err == nil {
			inner.name = name
			s.sections = append(s.sections, inner)
		}
	case "=":
		p.skip()
		set := Setting{Name: name, Start: p.at()}
		set.Values, err = p.value()
		set.End = p.at()
		s.settings = append(s.settings, set)
	default:
		err = fmt.Errorf("%q behind %s", sign, name)
	}
	return err
}

// value reads a list, or one element.
func (p *parser) value() ([]string, error) {
	first := p.token()
	if first != "[" {
		return element(nil, first)
	}
	var list []string
	for {
		switch t := p.token(); t {
		case "]":
			return list, nil
		case ",":
		default:
			var err error
			if list, err = element(list, t); err != nil {
				return nil, err
			}
			if p.names++; p.names > maxNames {
				return nil, fmt.Errorf("a list of %d elements", len(list))
			}
		}
	}
}

func element(list []string, token string) ([]string, error) {
	switch {
	case strings.HasPrefix(token, `"`):
		return append(list, token[1:]), nil
	case token == "" || !isWord(token[0]):
		return nil, fmt.Errorf("%q where a value was expected", token)
	}
	return append(list, token), nil
}

// token takes the next sign, word or text; "" at the end. A text keeps the quote
// that it begins with, to be told from a word.
func (p *parser) token() string {
	p.skip()
	if p.text == "" {
		return ""
	}
	if p.text[0] == '"' {
		return p.quoted()
	}
	n := 0
	for n < len(p.text) && isWord(p.text[n]) {
		n++
	}
	n = max(n, 1)
	t := p.text[:n]
	p.text = p.text[n:]
	return t
}

// skip passes over blanks and comments.
func (p *parser) skip() {
	for {
		p.text = strings.TrimLeft(p.text, " \t\r\n\x00")
		if !strings.HasPrefix(p.text, "#") {
			return
		}
		_, p.text, _ = strings.Cut(p.text, "\n")
	}
}

// quoted takes a text; its escapes are \" and \\.
func (p *parser) quoted() string {
	var out strings.Builder
	out.WriteByte('"')
	for i := 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			p.text = p.text[i+1:]
			return out.String()
		case c == '\\' && i+1 < len(p.text):
			i++
			out.WriteByte(p.text[i])
		default:
			out.WriteByte(c)
		}
	}
	p.text = ""
	return "" // a text without an end
}

// isWord tells the bytes of names and numbers.
func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.+-/:@", c) >= 0
}

// list are the values of a setting; none if there is no such setting.
func (s *section) list(name string) []string {
	for _, set := range slices.Backward(s.settings) {
		if set.Name == name {
			return set.Values
		}
	}
	return nil
}

// one is a setting with one value, or "".
func (s *section) one(name string) string {
	if v := s.list(name); len(v) == 1 {
		return v[0]
	}
	return ""
}

// number is a setting between 0 and max.
func (s *section) number(name string, max int64) (int64, error) {
	n, err := number(s.one(name), max)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is %q", ErrMetadata, name, s.one(name))
	}
	return n, nil
}

// number reads a word as one between 0 and max.
func number(word string, max int64) (int64, error) {
	n, err := strconv.ParseInt(word, 10, 64)
	if err == nil && (n < 0 || n > max) {
		err = strconv.ErrRange
	}
	return n, err
}

// within are the sections in a section of a name.
func (s *section) within(name string) []*section {
	for _, inner := range s.sections {
		if inner.name == name {
			return inner.sections
		}
	}
	return nil
}
