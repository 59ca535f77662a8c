package libvirt

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// host is how a daemon runs machines.
type host struct {
	by          string   // the daemon, for people
	user, group int      // whom its QEMU runs as
	confines    []string // security models that let QEMU reach only what its domain names
}

// describe asks a daemon how it runs machines.
func describe(d daemon, uri string) (host, error) {
	version, err := d.Version()
	if err != nil {
		return host{}, err
	}
	capabilities, err := d.Capabilities()
	if err != nil {
		return host{}, err
	}
	h, err := hostOf(capabilities)
	h.by = fmt.Sprintf("libvirt %s, %s", version, uri)
	return h, err
}

// hostOf reads a daemon's capabilities. A daemon of an ordinary user has no "dac"
// model: its QEMU runs as the same user, who is us.
// Source: libvirt, docs/formatcaps.rst; src/qemu/qemu_conf.c, virQEMUDriverCreateCapabilities.
func hostOf(capabilities string) (host, error) {
	h := host{user: os.Geteuid(), group: os.Getegid()}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(capabilities); err != nil {
		return h, fmt.Errorf("libvirt's capabilities: %w", err)
	}
	for _, model := range caps.Host.SecModel {
		switch model.Name {
		case "apparmor", "selinux":
			h.confines = append(h.confines, model.Name)
		case "dac":
			i := slices.IndexFunc(model.Labels, func(l libvirtxml.CapsHostSecModelLabel) bool { return l.Type == "qemu" })
			if i < 0 {
				return h, fmt.Errorf("libvirt's capabilities do not say as which user QEMU runs")
			}
			if _, err := fmt.Sscanf(model.Labels[i].Value, "+%d:+%d", &h.user, &h.group); err != nil {
				return h, fmt.Errorf("libvirt's capabilities: the user %q: %w", model.Labels[i].Value, err)
			}
		}
	}
	return h, nil
}

// lend lets QEMU's user connect to sockets of ours, and nobody else: it enters
// their folders by its group. Only root can give files away.
func (h host) lend(sockets []string) error {
	if os.Geteuid() != 0 || h.user == 0 {
		return nil
	}
	for _, socket := range sockets {
		if err := os.Chown(socket, h.user, h.group); err != nil {
			return err
		}
		folder := filepath.Dir(socket)
		if err := os.Chown(folder, -1, h.group); err != nil {
			return err
		}
		if err := os.Chmod(folder, 0o710); err != nil {
			return err
		}
	}
	return nil
}

// runner is the user whom the machine's QEMU runs as: an ordinary user can give
// no sockets away, so QEMU has to come as that user.
func (h host) runner() (user, group int) {
	if os.Geteuid() != 0 {
		return os.Geteuid(), os.Getegid()
	}
	return h.user, h.group
}

// hint tells what may be done when QEMU did not get to a socket of ours: it is
// not let into the folder, or libvirt's daemon has a /tmp of its own.
func (h host) hint(err error, folder string) error {
	said := err.Error()
	if !strings.Contains(said, "Failed to connect") || !strings.Contains(said, "Permission denied") && !strings.Contains(said, "No such file") {
		return err
	}
	user, _ := h.runner()
	return fmt.Errorf("%w; set TMPDIR to a folder that libvirt's QEMU, which runs as user %d, sees and can enter: this program's sockets are in %s", err, user, folder)
}
