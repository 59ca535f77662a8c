package bundle

import (
	"bytes"
	"regexp"
	"unicode/utf8"
)

// looks are what secrets of ours look like, wherever they may have come into a text by
// mistake: tokens, hashes of passwords, private keys, what was shown to a server, and
// passwords in addresses.
var looks = []struct {
	like *regexp.Regexp
	as   []byte
}{
	{regexp.MustCompile(`h2k_[a-z2-7]{20,}`), blotted},
	{regexp.MustCompile(`\$(argon2id?|2[aby]|5|6|y)\$[./A-Za-z0-9$=,+]{16,}`), blotted},
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`), blotted},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`), []byte("$1 [secret]")},
	{regexp.MustCompile(`(__Host-session=)[^;\s"]+`), []byte("$1[secret]")},
	{regexp.MustCompile(`(://[^/\s:@"]*):[^/\s@"]+@`), []byte("$1:[secret]@")},
	{regexp.MustCompile(`(?i)\b((?:passwo?r?d|passphrase|token)["']?[=:]\s*["']?)[^\s"',}\]]{6,}`), []byte("$1[secret]")},
}

var blotted = []byte("[secret]")

// blot takes out of a text what looks like a secret. What is no text is left as it is.
func blot(text []byte) []byte {
	if !utf8.Valid(text) && bytes.IndexByte(text, 0) >= 0 {
		return text
	}
	for _, l := range looks {
		text = l.like.ReplaceAll(text, l.as)
	}
	return text
}
