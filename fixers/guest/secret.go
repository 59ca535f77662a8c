package guest

import (
	"fmt"
	"log/slog"
)

// Secret is bytes that nobody is to see: it prints, logs and is saved as [secret].
type Secret []byte

const hidden = "[secret]"

// Format prints what every verb prints.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, hidden) }

// LogValue is what is logged.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText is what is saved.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Wipe overwrites it, for when it is not needed any more. Copies are not known.
func (s Secret) Wipe() { clear(s) }
