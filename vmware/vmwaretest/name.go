package vmwaretest

import (
	"encoding/hex"
	"strings"
)

// escape is how a server stores a name that people read.
//
// Source: vSphere Web Services API, ManagedEntity.name.
func escape(name string) string { return stored(strings.ReplaceAll(name, "%", "%25")) }

// stored is how a server stores a name that a client gives it, in which a percent sign
// may begin an escape sequence.
//
// Source: vSphere Web Services API, ManagedEntity.Rename_Task.
func stored(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c == '/':
			b.WriteString("%2f")
		case c == '\\':
			b.WriteString("%5c")
		case c == '%' && !sequence(name[i:]):
			b.WriteString("%25")
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// sequence tells whether text begins with an escape sequence.
func sequence(text string) bool {
	if len(text) < 3 {
		return false
	}
	_, err := hex.DecodeString(text[1:3])
	return err == nil
}
