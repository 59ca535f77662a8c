package guest

import "strings"

// Mounted is a file system of a topology, and the folder of the guest where it is,
// links resolved.
type Mounted struct{ Device, At string }

// DeviceOf is the device of the file system that what a name leads to is on.
func DeviceOf(r Reader, mounts []Mounted, name string) (string, error) {
	at, err := NewView(r).Resolve(name)
	best := Mounted{}
	for _, m := range mounts {
		within := m.At == "/" || at == m.At || strings.HasPrefix(at, m.At+"/")
		if within && len(m.At) >= len(best.At) { // a later one covers an earlier one
			best = m
		}
	}
	return best.Device, err
}
