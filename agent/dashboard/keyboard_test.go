package dashboard

import (
	"os"
	"testing"
)

func TestFunctionKeysOfLinuxsConsoleAreRead(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := out.WriteString("a\x1b[[A\x1b[[D\x1b[[E\x1b[21~"); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	ended := 0
	k := keyboard{in, func(error) { ended++ }}
	b := make([]byte, 256)
	n, err := k.Read(b)
	if got, want := string(b[:n]), "a\x1bOP\x1bOS\x1b[[E\x1b[21~"; err != nil || got != want || ended != 0 {
		t.Errorf("Read = %q, %v, %d ends, want %q", got, err, ended, want)
	}
	if n, err := k.Read(b); n != 0 || err == nil || ended != 1 {
		t.Errorf("Read = %d, %v, %d ends at the end", n, err, ended)
	}
}
