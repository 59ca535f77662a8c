package lvm

import (
	"fmt"
	"strconv"
	"strings"
)

// section is a part of the metadata in braces: settings, and sections in it.
type section struct {
	names    []string // of the sections, in order
	sections map[string]*section
	settings map[string][]string // the elements of a list, or the one value; texts without quotes
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
	p := &parser{text: string(text)}
	s, err := p.section(0)
	if err != nil {
		return nil, fmt.Errorf("%w: byte %d of its text: %w", ErrMetadata, len(text)-len(p.text), err)
	}
	return s, nil
}

type parser struct {
	text  string // what is not read yet
	names int    // and elements of lists, so far
}

// section reads up to the brace that ends it, or to the end of the text.
func (p *parser) section(depth int) (*section, error) {
	s := &section{sections: map[string]*section{}, settings: map[string][]string{}}
	for {
		switch name := p.token(); {
		case name == "" && depth == 0:
			return s, nil
		case name == "}" && depth > 0:
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
		if s.sections[name] == nil {
			s.names = append(s.names, name)
		}
		s.sections[name], err = p.section(depth + 1)
	case "=":
		s.settings[name], err = p.value()
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
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.+-", c) >= 0
}

// one is a setting with one value, or "".
func (s *section) one(name string) string {
	if v := s.settings[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// number is a setting between 0 and max.
func (s *section) number(name string, max int64) (int64, error) {
	n, err := strconv.ParseInt(s.one(name), 10, 64)
	if err != nil || n < 0 || n > max {
		return 0, fmt.Errorf("%w: %s is %q", ErrMetadata, name, s.one(name))
	}
	return n, nil
}

// within is a section of a name, or an empty one.
func (s *section) within(name string) *section {
	if found := s.sections[name]; found != nil {
		return found
	}
	return &section{}
}
