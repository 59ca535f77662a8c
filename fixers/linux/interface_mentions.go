package linux

import (
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// networkFiles are where distributions keep the configuration of networks.
var networkFiles = []struct{ stack, dir, prefix string }{
	{"ifupdown", "/etc/network", "interfaces"},
	{"ifupdown", "/etc/network/interfaces.d", ""},
	{"networkd", "/etc/systemd/network", ""},
	{"netplan", "/etc/netplan", ""},
	{"NetworkManager", "/etc/NetworkManager/system-connections", ""},
	{"ifcfg", "/etc/sysconfig/network-scripts", "ifcfg-"},
	{"wicked", "/etc/sysconfig/network", "ifcfg-"},
}

var (
	mentioned    = regexp.MustCompile(`\b(eth\d{1,4}|ens\d{1,5}|enp\d{1,3}s\d{1,2}|eno\d{8,10})\b`)
	mentionedMAC = regexp.MustCompile(`(?i)\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
)

// mentions are the network cards that configuration files speak of, whatever
// the file's form: ports of bridges and bonds too, and stacks that inspection
// does not read. A MAC is that of the card when the file has one of each.
func mentions(g *guest.View) ([]inspect.Interface, error) {
	var found []inspect.Interface
	for _, place := range networkFiles {
		files, err := listed(g, place.dir, "")
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			info, err := g.Stat(file)
			if err != nil || !info.Mode.IsRegular() || !strings.HasPrefix(path.Base(file), place.prefix) || strings.HasSuffix(file, ".link") {
				continue
			}
			text, err := g.ReadFile(file, guest.MaxText)
			if errors.Is(err, guest.ErrTooBig) {
				continue // no configuration
			}
			if err != nil {
				return nil, err
			}
			found = append(found, mentionsIn(text, place.stack, file)...)
		}
	}
	return found, nil
}

func mentionsIn(text []byte, stack, file string) []inspect.Interface {
	var names, macs []string
	if name, ok := strings.CutPrefix(path.Base(file), "ifcfg-"); ok && mentioned.FindString(name) == name {
		names = append(names, name)
	}
	for _, line := range splitLines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		names = append(names, mentioned.FindAllString(line, -1)...)
		macs = append(macs, mentionedMAC.FindAllString(strings.ToLower(line), -1)...)
	}
	slices.Sort(names)
	slices.Sort(macs)
	names, macs = slices.Compact(names), slices.Compact(macs)
	var found []inspect.Interface
	for _, name := range names {
		found = append(found, inspect.Interface{Name: name, Stack: stack, Source: file})
	}
	if len(macs) == 1 && len(names) == 1 {
		found[0].MAC = macs[0]
	}
	if len(macs) == 1 && len(names) == 0 && stack != "ifupdown" {
		found = append(found, inspect.Interface{MAC: macs[0], Stack: stack, Source: file})
	}
	return found
}
