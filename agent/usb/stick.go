package usb

import (
	"fmt"
	"strings"

	"hyper2kvm/agent/disks"
)

// Stick is a device that an image can go onto.
type Stick struct{ disks.Attached }

// OpenStick looks at a device of a machine, by its node. It changes nothing.
func OpenStick(path string, m disks.Machine) (*Stick, error) {
	d, err := m.At(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrStick, err)
	case d.ReadOnly:
		return nil, fmt.Errorf("%w: %s is write-protected", ErrStick, path)
	case d.Size == 0:
		return nil, fmt.Errorf("%w: %s holds nothing: is a card in its reader?", ErrStick, path)
	}
	return &Stick{d}, nil
}

// Pluggable tells whether it is one that is plugged in and out.
func (s *Stick) Pluggable() bool { return s.Removable || s.Bus == "usb" }

// String is what people know a stick by.
func (s *Stick) String() string {
	words := []string{s.Path}
	for _, w := range []string{s.Model, s.Serial} {
		if w != "" {
			words = append(words, w)
		}
	}
	return fmt.Sprintf("%s (%.1f GB)", strings.Join(words, ", "), float64(s.Size)/1e9)
}
