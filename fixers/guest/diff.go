package guest

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	difflib "github.com/rogpeppe/go-internal/diff"
)

// maxDiff bounds the text of which a diff is made; a reviewer reads no more.
const maxDiff = 1 << 20

// diff is a unified diff of a text file, or a sentence for anything else.
func diff(name string, old, now []byte) string {
	if len(old) > maxDiff || len(now) > maxDiff || !isText(old) || !isText(now) {
		return fmt.Sprintf("binary, %d bytes to %d bytes", len(old), len(now))
	}
	return string(difflib.Diff("a"+name, old, "b"+name, now))
}

func isText(data []byte) bool { return utf8.Valid(data) && !bytes.ContainsRune(data, 0) }
