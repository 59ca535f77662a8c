package auth_test

import (
	"regexp"
	"strings"
	"testing"

	"hyper2kvm/agent/auth"
)

var (
	validKey  = regexp.MustCompile(`^sessions\.[0-9a-f]{32}\.[0-9a-f]{32}$`)
	validCode = regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{20}$`)
)

// FuzzParsers gives what a stranger sends to what reads it first.
func FuzzParsers(f *testing.F) {
	f.Add("01234-56789-ABCDE-FGHJK")
	f.Add("Bearer h2k_" + strings.Repeat("a", 52))
	f.Add("0123456789abcdef0123456789abcdef." + strings.Repeat("_", 43))
	f.Add(reference)
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$$")
	f.Fuzz(func(t *testing.T, text string) {
		if code, err := auth.ParseCode(text); err == nil {
			if again, err := auth.ParseCode(code); !validCode.MatchString(code) || again != code || err != nil {
				t.Errorf("ParseCode(%q) = %q, of which %q, %v", text, code, again, err)
			}
		}
		if token, ok := auth.Bearer(text); ok && (len(token) != 56 || !strings.Contains(text, token)) {
			t.Errorf("Bearer(%q) = %q", text, token)
		}
		if key, ok := auth.SessionKey(text); ok && !validKey.MatchString(key) {
			t.Errorf("sessionKey(%q) = %q", text, key)
		}
		if again, err := auth.ParseHash(text); err == nil && again != text {
			t.Errorf("parseHash(%q) is %q", text, again)
		}
		_ = auth.CheckPassword("marta", text)
	})
}
