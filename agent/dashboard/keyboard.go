package dashboard

import (
	"bytes"
	"os"
)

// keyboard is a terminal whose function keys are read as those of a VT100. Linux's
// console sends others for the first five, which the library does not know.
//
// Source: Linux, drivers/tty/vt/defkeymap.map: string F1 = "\033[[A".
type keyboard struct {
	*os.File
	gone func(error) // is told of its end, which the library takes for a pause
}

// Read implements io.Reader. The console hands a key over whole.
func (k keyboard) Read(b []byte) (int, error) {
	n, err := k.File.Read(b)
	if err != nil {
		k.gone(err)
	}
	if n <= 0 {
		return n, err
	}
	read := b[:n]
	for i := range 4 {
		read = bytes.ReplaceAll(read, []byte("\x1b[["+string(rune('A'+i))), []byte("\x1bO"+string(rune('P'+i))))
	}
	return copy(b, read), err
}
