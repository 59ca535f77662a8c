package luks

import (
	"crypto/sha256"
	"encoding/json"
	"testing"
)

// summed puts the sum of a header of version 2 into it.
func summed(b []byte) {
	clear(b[448:512])
	sum := sha256.Sum256(b)
	copy(b[448:], sum[:])
}

func FuzzRead(f *testing.F) {
	text, err := json.Marshal(description())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(magic+"\x00\x01aes"), text)
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if len(two) > 12<<10-1 {
			return
		}
		for _, data := range []padded{one, described(string(two))} {
			h, err := Read(data, size)
			if err != nil {
				continue
			}
			if h.Start <= 0 || h.Size <= 0 || h.Start+h.Size > size || h.Sector < 512 || h.Sector > 4096 {
				t.Errorf("%+v", h)
			}
			for _, s := range h.slots {
				if s.start < 0 || s.start+s.length() > size || s.length() > maxKey*maxStripes {
					t.Errorf("%+v", s)
				}
				s.kdf = kdf{kind: pbkdf, hash: "sha256", iterations: 1} // what it costs is another test's
				s.open(data, []byte("x"))
			}
		}
	})
}
