package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestASecretIsNeverSeen(t *testing.T) {
	s := Secret("sesame")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", s, "keys", []Secret{s}, "ring", NewKeyring([]Key{{"all", []Secret{s}}}))
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s, "crypt", Crypt{Key: s})
	text, err := json.Marshal(map[string]any{"key": s, "keys": NewKeyring([]Key{{"all", []Secret{s}}}), "volume": Volume{Crypt: &Crypt{Key: s}}})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(text)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		all += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, []Secret{s}) + fmt.Sprintf(verb, Key{"all", []Secret{s}})
	}
	for _, seen := range []string{"sesame", fmt.Sprintf("%x", "sesame"), fmt.Sprintf("%X", "sesame"), "115 101", "115,101", "c2VzYW1l"} {
		if strings.Contains(all, seen) {
			t.Errorf("%q is in %s", seen, all)
		}
	}
}

func TestAWipedSecretIsGone(t *testing.T) {
	s := Secret("sesame")
	part := s[2:4]
	s.Wipe()
	if string(s) != "\x00\x00\x00\x00\x00\x00" || string(part) != "\x00\x00" {
		t.Errorf("%q is left", []byte(s))
	}
}
