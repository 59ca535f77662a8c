package inspect

import (
	"path"
	"strings"
)

// nmConfig are the settings of NetworkManager.conf and its drop-ins: the last
// of each wins. What a drop-in adds to a list with += comes to what was there.
//
// Source: NetworkManager.conf(5), "File format"; netplan's configure.c, which
// hides Ubuntu's list of what is left alone where netplan renders for
// NetworkManager.
func (t *files) nmConfig() []UnitLine {
	if t.nm != nil {
		return t.nm
	}
	t.nm = []UnitLine{}
	names := []string{"/etc/NetworkManager/NetworkManager.conf"}
	for _, file := range append(names, t.override("*.conf", "/etc/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d")...) {
		if t.netplanConfig().renderer == "NetworkManager" && path.Base(file) == "10-globally-managed-devices.conf" {
			continue
		}
		if data, ok := t.read(file, maxConfig); ok {
			t.nm = append(t.nm, ParseKeyfile(data)...)
		}
	}
	return t.nm
}

// nmSetting is one setting of NetworkManager's configuration.
func (t *files) nmSetting(section, key string) string {
	value := ""
	for _, l := range t.nmConfig() {
		switch {
		case l.Section != section:
		case l.Key == key:
			value = l.Value
		case l.Key == key+"+":
			value += "," + l.Value
		}
	}
	return value
}

// nmSpecs is a list of devices.
type nmSpecs []string

// nmUnmanaged are the devices that NetworkManager leaves alone: those of its
// configuration, and on Debian those of ifupdown.
//
// Source: NetworkManager.conf(5), keyfile.unmanaged-devices, ifupdown.managed.
func (t *files) nmUnmanaged() nmSpecs {
	specs := nmSpecs(strings.FieldsFunc(t.nmSetting("keyfile", "unmanaged-devices"), func(r rune) bool { return strings.ContainsRune(";,", r) }))
	if strings.Contains(t.nmSetting("main", "plugins"), "ifupdown") && !isTrue(t.nmSetting("ifupdown", "managed")) {
		for _, i := range t.ifupdown() {
			specs = append(specs, "interface-name:="+i.Name)
		}
	}
	return specs
}

// has tells whether a list has the card that a profile is for. What a list says
// of drivers and of cards that the profile does not name is not known.
//
// Source: NetworkManager.conf(5), "Device List Format".
func (s nmSpecs) has(i Interface) bool {
	found, only := false, true
	for _, spec := range s {
		except, not := strings.CutPrefix(strings.TrimSpace(spec), "except:")
		only = only && not
		if !nmSpec(except, i) {
			continue
		}
		if not {
			return false
		}
		found = true
	}
	return found || only && len(s) > 0
}

func nmSpec(spec string, i Interface) bool {
	kind, value, ok := strings.Cut(spec, ":")
	switch {
	case spec == "*":
		return true
	case !ok:
		return spec != "" && spec == i.Name
	case kind == "interface-name" && strings.HasPrefix(value, "="):
		return value[1:] == i.Name
	case kind == "interface-name":
		return i.Name != "" && matches(strings.TrimPrefix(value, "~"), i.Name)
	case kind == "mac":
		return i.MAC != "" && hardwareAddress(value) == i.MAC
	case kind == "type":
		return value == "ethernet"
	}
	return i.MAC != "" && hardwareAddress(spec) == i.MAC // a MAC alone
}
