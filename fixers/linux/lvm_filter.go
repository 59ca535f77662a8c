package linux

import (
	"fmt"
	"regexp"
	"strings"
)

// lvmFilter is one of LVM's filters, as patterns in their order.
type lvmFilter []lvmPattern

type lvmPattern struct {
	accept bool
	match  *regexp.Regexp
}

// parseFilter reads the patterns of a filter: a or r, and a regular expression
// between two signs, which may be brackets.
//
// Source: lvm.conf(5), filter; LVM2 lib/filters/filter-regex.c, _extract_pattern.
func parseFilter(values []string) (lvmFilter, error) {
	var filter lvmFilter
	for _, v := range values {
		if len(v) < 3 || v[0] != 'a' && v[0] != 'r' || v[len(v)-1] != closing(v[1]) {
			return nil, fmt.Errorf("the pattern %.100q is not understood", v)
		}
		match, err := regexp.Compile(v[2 : len(v)-1])
		if err != nil {
			return nil, fmt.Errorf("the pattern %.100q is not understood: %w", v, err)
		}
		filter = append(filter, lvmPattern{v[0] == 'a', match})
	}
	return filter, nil
}

func closing(sign byte) byte {
	if i := strings.IndexByte("([{", sign); i >= 0 {
		return ")]}"[i]
	}
	return sign
}

// pass tells whether a filter lets a device of this name alone pass: the first
// pattern that matches decides, and where none does it passes.
func (f lvmFilter) pass(name string) bool {
	for _, p := range f {
		if p.match.MatchString(name) {
			return p.accept
		}
	}
	return true
}

// letters is how the kernel counts disks: a, b … z, aa.
func letters(number string) string {
	n := 0
	for _, c := range []byte(number) { // a pattern has bounded it
		n = n*10 + int(c-'0')
	}
	text := ""
	for n++; n > 0; n = (n - 1) / 26 {
		text = string(rune('a'+(n-1)%26)) + text
	}
	return text
}
