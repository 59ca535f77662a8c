package watch

import (
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
	case slices.ContainsFunc(secret, func(c byte) bool { return c < ' ' || c > '~' }):
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
	return best, best.unfit
}
