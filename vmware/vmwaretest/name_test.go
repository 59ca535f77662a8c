package vmwaretest

import "testing"

func TestNamesAreStoredEscaped(t *testing.T) {
	for name, want := range map[string][2]string{ // as people read it; as a client gives it
		"web01":  {"web01", "web01"},
		"a/b":    {"a%2fb", "a%2fb"},
		"a%2fb":  {"a%252fb", "a%2fb"},
		`a\b%`:   {"a%5cb%25", "a%5cb%25"},
		"50%%":   {"50%25%25", "50%25%25"},
		"50% zu": {"50%25 zu", "50%25 zu"},
	} {
		if got := [2]string{escape(name), stored(name)}; got != want {
			t.Errorf("%q is stored as %q, want %q", name, got, want)
		}
	}
}
