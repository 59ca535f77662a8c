package disk

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
)

// encodings are names that VMware gives to encodings and WHATWG does not know.
//
// Source: open-vm-tools, unicodeSimpleTypes.c, the code pages of Windows.
var encodings = map[string]string{
	"windows-932": "shift_jis", "cp932": "shift_jis", "ibm-943": "shift_jis",
	"windows-936": "gbk", "cp936": "gbk",
	"windows-950": "big5", "cp950": "big5",
	"ibm-874": "windows-874",
}

var named = regexp.MustCompile(`(?im)^[ \t]*\.?encoding[ \t]*=[ \t]*"?([\w.-]+)"?[ \t\r]*$`)

// UTF8 is the text of a file of VMware's as UTF-8. Such a file says its encoding
// in its setting encoding (of a descriptor) or .encoding (of a VMX file). One
// that does not is UTF-8, or was written before there was that setting, most
// likely on Windows in the West.
func UTF8(data []byte) (string, error) {
	name := "utf-8"
	if m := named.FindSubmatch(data); m != nil {
		name = strings.ToLower(string(m[1]))
	} else if !utf8.Valid(data) {
		text, err := charmap.Windows1252.NewDecoder().Bytes(data)
		return string(text), err
	}
	if other, ok := encodings[name]; ok {
		name = other
	}
	encoding, err := htmlindex.Get(name)
	if err != nil {
		return "", fmt.Errorf("its encoding %q is not known; write the file in UTF-8 and say encoding = \"UTF-8\" in it", name)
	}
	text, err := encoding.NewDecoder().Bytes(data)
	return strings.TrimPrefix(string(text), "\ufeff"), err
}
