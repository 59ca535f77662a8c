package update

import (
	"cmp"
	"regexp"
	"strings"
)

// aVersion is what may be a version: names of files are made of it, and lines for GRUB.
var aVersion = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.^~-]{0,63}$`)

// Compare orders versions as systemd-boot does, which starts the latest: it is negative if
// the first is earlier.
//
// Source: UAPI group, Version Format Specification; systemd, strverscmp_improved.
func Compare(a, b string) int {
	for {
		a, b = strings.TrimLeftFunc(a, unused), strings.TrimLeftFunc(b, unused)
		if c, decided := marked(&a, &b, '~'); decided {
			return c
		}
		if a == "" || b == "" {
			return cmp.Compare(len(a), len(b))
		}
		for _, mark := range "-^." {
			if c, decided := marked(&a, &b, byte(mark)); decided {
				return c
			}
		}
		var c int
		if digit(head(a)) || digit(head(b)) {
			c = numbers(cut(&a, digit), cut(&b, digit))
		} else {
			c = strings.Compare(cut(&a, letter), cut(&b, letter))
		}
		if c != 0 {
			return c
		}
	}
}

// marked goes past a mark that both begin with. One that begins with it alone is earlier.
func marked(a, b *string, mark byte) (c int, decided bool) {
	inA, inB := head(*a) == mark, head(*b) == mark
	if inA && inB {
		*a, *b = (*a)[1:], (*b)[1:]
	}
	switch {
	case inA && !inB:
		return -1, true
	case inB && !inA:
		return 1, true
	}
	return 0, false
}

// numbers compares digits by their value. None at all is earlier than any.
func numbers(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(a), len(b))
	}
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// cut takes off what a text begins with.
func cut(s *string, is func(byte) bool) string {
	n := 0
	for n < len(*s) && is((*s)[n]) {
		n++
	}
	taken := (*s)[:n]
	*s = (*s)[n:]
	return taken
}

// head is the first byte; 0 if there is none.
func head(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// unused is what versions are not made of.
func unused(r rune) bool {
	return r >= 0x80 || !digit(byte(r)) && !letter(byte(r)) && !strings.ContainsRune("~-^.", r)
}
