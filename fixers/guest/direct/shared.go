package direct

import "hyper2kvm/fixers/guest"

// shared is the device of a file system that may be mounted at several folders. The
// kernel must know a file system by one device alone: behind another it would be
// another file system, on the same blocks.
type shared struct {
	device
	name string // of the topology
	uses int
}

// share makes a device of what a file system lies on, or takes that which it has.
func (g *engine) share(f guest.Filesystem) (*shared, error) {
	for _, m := range g.mounts.list {
		if m.device.name == f.Device {
			m.device.uses++
			return m.device, nil
		}
	}
	d, err := g.attach(f)
	return &shared{d, f.Device, 1}, err
}

// Detach lets go of the device when nobody else uses it.
func (s *shared) Detach() error {
	if s.uses--; s.uses > 0 {
		return nil
	}
	return s.device.Detach()
}
