package dashboard

import (
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"hyper2kvm/pipeline"
)

// mostText is how much of a text is looked at, bytes: more than a screen holds.
const mostText = 4 << 10

// plain is a text from anywhere as printable ASCII on one line: letters lose their
// accents, what would command the terminal is spelled out, and what else there is
// becomes a question mark.
func plain(text string) string {
	if len(text) > mostText {
		text = text[:mostText]
	}
	var b strings.Builder
	for _, r := range norm.NFKD.String(pipeline.Line(text)) {
		switch {
		case r >= ' ' && r < 0x7f:
			b.WriteRune(r)
		case r == '\t':
			b.WriteByte(' ')
		case !unicode.Is(unicode.Mn, r):
			b.WriteByte('?')
		}
	}
	return b.String()
}

// fit cuts a text to a width, and shows that it did.
func fit(text string, width int) string {
	switch {
	case len(text) <= width:
		return text
	case width <= 1:
		return text[:max(width, 0)]
	}
	return text[:width-1] + "~"
}

// wrap breaks a text between words, into lines of a width. Words that are longer are
// broken too, so that nothing is lost of an address or a fingerprint.
func wrap(text string, width int) (lines []string) {
	width = max(width, 1)
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
		for len(line) > width {
			lines, line = append(lines, line[:width]), line[width:]
		}
	}
	return append(lines, line)
}

// size is a number of bytes for people, in binary units.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	value, unit := float64(n), 0
	for value >= 999.5 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.3g %s", value, units[unit])
}

// bar is how much of something is done.
func bar(done, total int64, width int) string {
	share := min(max(float64(done)/float64(max(total, 1)), 0), 1)
	full := int(share * float64(width))
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", width-full) + fmt.Sprintf("] %3.0f%%", 100*share)
}
