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

// networkFiles are where distributions keep the configuration of networks, and
// the names of the files that are read there.
var networkFiles = []struct {
	stack, dir string
	name       *regexp.Regexp
}{
	{"ifupdown", "/etc/network", regexp.MustCompile(`^interfaces$`)},
	{"ifupdown", "/etc/network/interfaces.d", anyFile},
	{"networkd", "/etc/systemd/network", regexp.MustCompile(`\.(network|netdev)$`)},
	{"netplan", "/etc/netplan", regexp.MustCompile(`\.yaml$`)},
	{"NetworkManager", "/etc/NetworkManager/system-connections", anyFile},
	{"ifcfg", "/etc/sysconfig/network-scripts", ifcfgFile},
	{"wicked", "/etc/sysconfig/network", ifcfgFile},
}

var (
	anyFile   = regexp.MustCompile(``)
	ifcfgFile = regexp.MustCompile(`^ifcfg-`)
	// backup matches files that no stack reads. Source: Red Hat's initscripts,
	// network-functions, __sed_discard_ignored_files.
	backup = regexp.MustCompile(`(~|\.(bak|old|orig|save|rpmnew|rpmorig|rpmsave|dpkg-\w+|swp))$`)
)

var (
	mentioned    = regexp.MustCompile(`\b(eth\d{1,4}|ens\d{1,5}|enp\d{1,3}s\d{1,2}|eno\d{8,10})\b`)
	mentionedMAC = regexp.MustCompile(`(?i)\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
)

// asksForMAC is how a stack's files say which card is meant. Other settings with
// a MAC are of addresses to be set, often on a bridge that is given its card's.
// What networkd asks for, inspection reads; netplan's files are of another form.
//
// Source: Red Hat's sysconfig.txt, HWADDR and MACADDR; nm-settings-keyfile(5),
// section ethernet; ifcfg(5) of wicked, LLADDR.
var asksForMAC = map[string]*regexp.Regexp{
	"ifcfg":          regexp.MustCompile(`^\s*HWADDR\s*=`),
	"NetworkManager": regexp.MustCompile(`^\s*mac-address\s*=`),
}

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
			if err != nil || !info.Mode.IsRegular() || !place.name.MatchString(path.Base(file)) || backup.MatchString(file) {
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
	if stack == "netplan" {
		return netplanMentions(text, file)
	}
	names, macs := namesIn(text), macsAskedFor(text, stack)
	if name, ok := strings.CutPrefix(path.Base(file), "ifcfg-"); ok && mentioned.FindString(name) == name {
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var found []inspect.Interface
	for _, name := range names {
		found = append(found, inspect.Interface{Name: name, Stack: stack, Source: file})
	}
	if len(macs) == 1 && len(names) == 1 {
		found[0].MAC = macs[0]
	}
	if len(macs) == 1 && len(names) == 0 {
		found = append(found, inspect.Interface{MAC: macs[0], Stack: stack, Source: file})
	}
	return found
}

// namesIn are the names of network cards in a text, comments left out.
func namesIn(text []byte) []string {
	var names []string
	for _, line := range splitLines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			names = append(names, mentioned.FindAllString(line, -1)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// macsAskedFor are the MACs by which a file says which card it is for.
func macsAskedFor(text []byte, stack string) []string {
	asks := asksForMAC[stack]
	if asks == nil {
		return nil
	}
	var macs []string
	isBridge := false // a section of NetworkManager's, whose mac-address is to be set
	for _, line := range splitLines(text) {
		if g := section.FindStringSubmatch(line); g != nil {
			isBridge = g[1] == "bridge"
		}
		if asks.MatchString(line) && !isBridge {
			macs = append(macs, mentionedMAC.FindAllString(strings.ToLower(line), -1)...)
		}
	}
	slices.Sort(macs)
	return slices.Compact(macs)
}
