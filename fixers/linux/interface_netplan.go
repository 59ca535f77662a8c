package linux

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
)

// freeNetplan makes netplan's definitions that match by VMware's driver match by
// MAC, and those that give a name to a card that is matched by another one: the
// card does not come with that name on KVM. The YAML is edited where it stands.
//
// Source: netplan-yaml(5), "Properties for physical device types"; netplan's
// networkd.c, append_match_section.
func (n *cardNaming) freeNetplan(g *guest.View) error {
	return editEach(g, "/etc/netplan", "*.yaml", n.freeNetplanFile)
}

// change is one replacement in a text, of the bytes from start to end.
type change struct {
	span
	text string
}

func (n *cardNaming) freeNetplanFile(old []byte, file string) []byte {
	defs, _, err := inspect.ParseNetplan(old)
	if err != nil {
		return old // inspection has told
	}
	var changes []change
	for _, d := range defs {
		if d.Section != "ethernets" || !d.HasMatch {
			continue
		}
		more, ok := n.freeDefinition(old, d, fmt.Sprintf("%s:%d", file, d.Line))
		if ok {
			changes = append(changes, more...)
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return b.start - a.start })
	now := string(old)
	for _, c := range changes {
		now = c.replace(now, c.text)
	}
	if _, _, err := inspect.ParseNetplan([]byte(now)); err != nil { // never to be, and never to be written
		n.concerns = append(n.concerns, byHand(file, "the names and drivers that it matches cards by"))
		return old
	}
	return []byte(now)
}

// freeDefinition is what must change in one definition.
func (n *cardNaming) freeDefinition(text []byte, d inspect.NetplanDef, where string) ([]change, bool) {
	setName := d.Values["set-name"]
	byDriver := inspect.VMwareOnly(d.Match.Drivers)
	byName := setName != "" && d.Match.Name != "" && d.Match.Name != "*"
	if !byDriver && !byName {
		return nil, false
	}
	mac, inserted := d.Match.MAC, false
	if mac == "" {
		if mac = n.cardOfDefinition(d); mac == "" {
			n.concerns = append(n.concerns, byHardware(where, cmp.Or(strings.Join(d.Match.Drivers, ", "), d.Match.Name)))
			return nil, false
		}
		inserted = true
	}
	var changes []change
	for _, e := range []struct {
		bound     bool
		key, what string
		at        *inspect.NetplanEntry
	}{{byDriver, "driver", strings.Join(d.Match.Drivers, ", "), d.Match.DriverAt}, {byName, "name", d.Match.Name, d.Match.NameAt}} {
		if !e.bound {
			continue
		}
		place, ok := entrySpan(text, e.at)
		if !ok {
			n.concerns = append(n.concerns, byHand(where, e.what))
			return nil, false
		}
		instead := e.key + `: "*"`
		if inserted {
			instead, inserted = fmt.Sprintf(`macaddress: "%s"`, mac), false
		}
		changes = append(changes, change{place, instead})
	}
	if setName != "" {
		n.keepWhole(mac)
	}
	return changes, true
}

// cardOfDefinition is the MAC of the one card that a definition is for.
func (n *cardNaming) cardOfDefinition(d inspect.NetplanDef) string {
	if mac := n.cards.MACOf(d.Values["set-name"]); mac != "" {
		return mac
	}
	var macs []string
	driven := n.cards.DrivenBy(d.Match.Drivers)
	for i := range n.in.Machine.NICs {
		c := n.cards.All[i]
		named := d.Match.Name == "" || c.Name == "" && strings.ContainsAny(d.Match.Name, "*?[") || inspect.Interface{Name: d.Match.Name}.IsFor(c.Name)
		if named && (len(d.Match.Drivers) == 0 || slices.Contains(driven, i)) {
			macs = append(macs, c.MAC)
		}
	}
	if len(macs) != 1 {
		return ""
	}
	return macs[0]
}

// keepWhole notes that netplan gives a card a name by its MAC: another link file
// would win over netplan's.
func (n *cardNaming) keepWhole(mac string) {
	for i, c := range n.cards.All {
		if c.MAC == mac {
			n.cards.All[i].Kept = true
		}
	}
}

// byHand warns of what stands in a form that is not edited.
func byHand(where, what string) fixer.Concern {
	return fixer.Concern{
		Level: fixer.Warning,
		Code:  "linux/netplan-by-hand",
		Text:  fmt.Sprintf("%s finds its network card by %s, which no card has on KVM, in a form that is not edited: an anchor, or a list with comments", where, what),
		Try:   "match the card by macaddress in the guest, and migrate again",
	}
}

// entrySpan is where an entry of a mapping stands, from its key to the end of its
// value; not ok for one that is not all plain: an anchor, comments within.
func entrySpan(text []byte, e *inspect.NetplanEntry) (span, bool) {
	if e == nil || e.Key.Anchor != "" || e.Value.Anchor != "" {
		return span{}, false
	}
	start := offsetOf(text, e.Key)
	end, ok := endOf(text, e.Value)
	if start < 0 || !ok || end <= start || bytes.ContainsRune(text[start:end], '#') {
		return span{}, false
	}
	return span{start, end}, true
}

// offsetOf is where a node begins, in bytes; its column counts characters.
func offsetOf(text []byte, n *yaml.Node) int {
	at := 0
	for range n.Line - 1 {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return -1
		}
		at += next + 1
	}
	column := 1
	for i := range string(text[at:]) {
		if column == n.Column {
			return at + i
		}
		column++
	}
	return -1
}

// endOf is where the value ends: a plain or quoted text on one line, or a list of
// such.
func endOf(text []byte, n *yaml.Node) (int, bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		return scalarEnd(text, n)
	case yaml.SequenceNode:
	default:
		return 0, false
	}
	end := offsetOf(text, n)
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.Anchor != "" {
			return 0, false
		}
		var ok bool
		if end, ok = scalarEnd(text, item); !ok {
			return 0, false
		}
	}
	if n.Style&yaml.FlowStyle == 0 {
		return end, len(n.Content) > 0
	}
	close := bytes.IndexByte(text[max(end, 0):], ']')
	return end + close + 1, end >= 0 && close >= 0 && len(bytes.Trim(text[end:end+close], " \t\r\n,[")) == 0
}

func scalarEnd(text []byte, n *yaml.Node) (int, bool) {
	start := offsetOf(text, n)
	if start < 0 {
		return 0, false
	}
	quote := ""
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		quote = `"`
	case n.Style&yaml.SingleQuotedStyle != 0:
		quote = `'`
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0:
		return 0, false
	}
	whole := quote + n.Value + quote // one with escapes is not the same, and is left
	return start + len(whole), n.Value != "" && bytes.HasPrefix(text[start:], []byte(whole))
}
