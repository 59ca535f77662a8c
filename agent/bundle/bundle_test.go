package bundle

import (
	"strings"
	"testing"
)

func TestWhatLooksLikeASecretIsBlottedOut(t *testing.T) {
	for text, want := range map[string]string{
		"token h2k_" + strings.Repeat("a2", 26) + " was shown":                         "token [secret] was shown",
		"hash $argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g":                  "hash [secret]",
		"root:$6$salt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8:19000:": "root:[secret]:19000:",
		"-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nnext":      "[secret]\nnext",
		"Authorization: Bearer abcdefgh12345":                                          "Authorization: Bearer [secret]",
		"Cookie: __Host-session=abcdef; x=y":                                           "Cookie: __Host-session=[secret]; x=y",
		"open nfs://user:hunter2@storage/x":                                            "open nfs://user:[secret]@storage/x",
		`{"password":"hunter2hunter2","name":"marta"}`:                                 `{"password":"[secret]","name":"marta"}`,
		"what says no secret, 10:20:30, https://host:8443/x, and $HOME stays":          "what says no secret, 10:20:30, https://host:8443/x, and $HOME stays",
		"key: smtp\x00\xff password=hunter2hunter2":                                    "key: smtp\x00\xff password=hunter2hunter2",
	} {
		if got := string(blot([]byte(text))); got != want {
			t.Errorf("blot(%q) = %q, want %q", text, got, want)
		}
	}
}
