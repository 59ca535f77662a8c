//go:build !appliance

package libvirt

// Available tells whether this program was built with libvirt.
const Available = false

func dial(string) (daemon, error) { return nil, ErrNotBuilt }
