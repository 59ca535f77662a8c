package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// small is a raw initrd with one file.
func small(name string, body []byte) []byte {
	var a archiver
	a.add("etc", typeDir|0o755, nil)
	a.add(name, typeReg|0o644, body)
	return a.close()
}

func TestTheSameBytesAreParsedOnce(t *testing.T) {
	data := small("etc/one", []byte("a"))
	first, err := Parse(data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse(bytes.Clone(data), Limits{}); again != first || err != nil {
		t.Errorf("the same bytes are parsed again: %v", err)
	}
	changed, err := Parse(small("etc/one", []byte("b")), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := changed.ReadFile("etc/one"); string(got) != "b" || err != nil {
		t.Errorf("what changed reads as %q, %v", got, err)
	}
	if _, err := Parse(data, Limits{Entries: 1}); !errors.Is(err, ErrLimit) {
		t.Errorf("within other limits: %v, want %v", err, ErrLimit)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	var r recent
	body := make([]byte, keptText)
	for i := range 2 * mostRemembered / keptText {
		data := small(fmt.Sprintf("etc/%d", i), body)
		rd, err := parse(data, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		r.add(keyOf(data, Limits{}), rd)
		if r.find(keyOf(data, Limits{})) != rd {
			t.Fatalf("initrd %d is not remembered", i)
		}
		if r.memory() > mostRemembered {
			t.Fatalf("%d initrds take %d bytes", len(r.list), r.memory())
		}
	}
	if len(r.list) < 20 {
		t.Errorf("%d are remembered", len(r.list))
	}
	large := &Initrd{kept: mostRemembered + 1}
	r.add(key{}, large)
	if r.find(key{}) != nil || len(r.list) < 20 {
		t.Errorf("one that is too large is remembered instead of %d others", len(r.list))
	}
}
