package firstboot

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// The names of sources, as people are told of them. A seed volume's has its device.
const (
	fromOVF       = "the OVF environment"
	fromGuestInfo = "VMware's guestinfo"
	fromSeed      = "the seed volume"
	fromKernel    = "the kernel command line"
	fromConsole   = "the appliance's console"
)

// source is what one of them says.
type source struct {
	name     string
	said     map[string]string // by key; no value is empty
	problems []string
}

func newSource(name string) *source { return &source{name: name, said: map[string]string{}} }

// wrong notes a problem.
func (s *source) wrong(format string, args ...any) {
	s.problems = append(s.problems, s.name+": "+fmt.Sprintf(format, args...))
}

// encoded begins a value of several lines, where only one can be written.
const encoded = "base64:"

// say takes what a source of one-line values says of a key. Nothing is said by an empty
// value, as a form has that nobody has filled in.
func (s *source) say(name, text string) {
	k, ok := keyNamed(name)
	if !ok {
		s.wrong("%s: %s", quotedName(name), unknown(name))
		return
	}
	if body, ok := strings.CutPrefix(text, encoded); ok {
		plain, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(body), ""))
		if err != nil {
			s.wrong("%s: is no base64: write %s and what base64 -w0 FILE prints", name, encoded)
			return
		}
		text = string(plain)
	}
	s.set(k, text)
}

// set takes the value of a key.
func (s *source) set(k key, text string) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
	case len(text) > k.most:
		s.wrong("%s: has %d bytes: write %d at most", k.name, len(text), k.most)
	case s.said[k.name] != "":
		s.wrong("%s: is there twice: say it once", k.name)
	default:
		s.said[k.name] = text
	}
}

// quotedName is a name that is no key, as far as it fits a sentence.
func quotedName(name string) string {
	if domainName.MatchString(name) && len(name) <= 64 {
		return name
	}
	return fmt.Sprintf("%.64q", name)
}

// entry is what counts of a key.
type entry struct {
	source string
	text   string
}

// over lays sources over one another: what the last one says of a key counts, and is told
// of where an earlier one says something else. An address has its gateway beside it, so
// that of an earlier source counts no more.
func over(sources []*source) (said map[string]entry, told []string) {
	said = map[string]entry{}
	for _, s := range sources {
		if before, ok := said["gateway"]; ok && s.said["address"] != "" && s.said["gateway"] == "" {
			delete(said, "gateway")
			told = append(told, fmt.Sprintf("gateway: that of %s is left out, since %s says another address", before.source, s.name))
		}
		for _, k := range keys {
			text, ok := s.said[k.name]
			if !ok {
				continue
			}
			if before, ok := said[k.name]; ok && before.text != text {
				told = append(told, fmt.Sprintf("%s: %s counts, and lies over %s", k.name, s.name, before.source))
			}
			said[k.name] = entry{s.name, text}
		}
	}
	return said, told
}
