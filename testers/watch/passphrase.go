package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Passphrase is what the console of a machine may ask for: what opens one encrypted
// device of the guest. It prints as [secret].
type Passphrase struct {
	names  []string // that a prompt may call the device by
	secret []byte
	unfit  string // why it cannot be typed
}

// Format prints what every verb prints.
func (Passphrase) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// maxTyped is what cryptsetup takes at a prompt, in bytes.
// Source: cryptsetup(8), "NOTES ON PASSPHRASE PROCESSING FOR LUKS".
const maxTyped = 512

// NewPassphrase is one for a device of these names, of which there is one at least.
// The secret is kept as it is, not a copy of it; nil is for a device whose passphrase
// nobody gave. What is not on every keyboard is not typed: a key file may hold
// anything.
func NewPassphrase(secret []byte, names ...string) Passphrase {
	p := Passphrase{names: names, secret: secret}
	switch {
	case secret == nil:
		p.unfit = "no --key was given for it"
	case len(secret) > maxTyped:
		p.unfit = fmt.Sprintf("its key has more than the %d characters that can be typed", maxTyped)
	case slices.ContainsFunc(secret, func(c byte) bool { _, ok := strokes[c]; return !ok || c == enter || c == backspace }):
		p.unfit = "its key has characters that a US keyboard has not: letters with accents, line ends, or any bytes"
	}
	return p
}

// chosen is the passphrase for a prompt, or why there is none. A prompt that names no
// known device is for the only one.
func chosen(all []Passphrase, prompt string) (Passphrase, string) {
	var best Passphrase
	longest := 0
	for _, p := range all {
		for _, name := range p.names {
			if len(name) > longest && strings.Contains(prompt, name) {
				best, longest = p, len(name)
			}
		}
	}
	if longest == 0 && len(all) == 1 {
		best, longest = all[0], 1
	}
	if longest == 0 {
		return best, "it names none of the devices that are encrypted"
	}
	return best, cmp.Or(best.unfit, "")
}

// stroke is a key of a US keyboard as Linux numbers it, which for these is as QEMU
// numbers it too, with the shift key or not.
// Source: Linux, include/uapi/linux/input-event-codes.h; QEMU,
// ui/keycodemapdb/data/keymaps.csv, the columns of Linux and of AT set 1.
type stroke struct {
	key   int
	shift bool
}

const (
	enter     = '\r'
	backspace = 0x7f
	shiftKey  = 42
)

// rows are the keys by what is on them, without and with shift; the number is that of
// the first.
var rows = []struct {
	first         int
	plain, shifts string
}{
	{2, "1234567890-=", "!@#$%^&*()_+"},
	{16, "qwertyuiop[]", "QWERTYUIOP{}"},
	{30, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
	{43, `\zxcvbnm,./`, "|ZXCVBNM<>?"},
}

// strokes are how characters are typed.
var strokes = func() map[byte]stroke {
	all := map[byte]stroke{enter: {key: 28}, backspace: {key: 14}, ' ': {key: 57}}
	for _, row := range rows {
		for i := range len(row.plain) {
			all[row.plain[i]] = stroke{row.first + i, false}
			all[row.shifts[i]] = stroke{row.first + i, true}
		}
	}
	return all
}()

// keys are pressed together.
func (s stroke) keys() []int {
	if s.shift {
		return []int{shiftKey, s.key}
	}
	return []int{s.key}
}
