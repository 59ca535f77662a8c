package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// NetplanDef is one network definition of a netplan file. What netplan appends
// to and what it overwrites when another file has the same definition is told
// by merge.
type NetplanDef struct {
	Section  string // ethernets, bonds, vlans …
	ID       string
	Line     int  // of the key, from 1
	HasMatch bool // a definition without is for the card that has its ID as a name
	Match    NetplanMatch
	// Values are its settings that are plain: dhcp4, set-name, link, renderer …
	Values     map[string]string
	Addresses  []string
	Interfaces []string // ports
	Gateways   []string // of routes to everywhere, in the main table
	// Passthrough are settings of NetworkManager's own, as connection.autoconnect.
	Passthrough map[string]string
}

// NetplanMatch is how a definition finds its card, and where that stands.
type NetplanMatch struct {
	Name, MAC string
	Drivers   []string
	// DriverAt and NameAt are where the two stand; nil where that is not in the
	// definition itself, but in an anchor.
	DriverAt, NameAt *NetplanEntry
}

// NetplanEntry is the key and the value of an entry of a mapping.
type NetplanEntry struct{ Key, Value *yaml.Node }

// Bounds on a netplan file: the parser's time grows faster than the size, and a
// few anchors can stand for any number of nodes.
const (
	maxYAML      = 128 << 10
	maxYAMLFiles = 1 << 20 // all files together
	maxYAMLNodes = 100_000
)

// errYAMLNodes is a file whose anchors stand for too much.
var errYAMLNodes = errors.New("more nodes than expected")

// yamlReader walks a YAML document, following anchors, within a bound.
type yamlReader struct{ left int }

// yamlEntry is one entry of a mapping.
type yamlEntry struct {
	key, value *yaml.Node
	anchored   bool // the mapping stands elsewhere
}

// entries are those of a mapping; none of anything else.
func (r *yamlReader) entries(n *yaml.Node) []yamlEntry {
	var all []yamlEntry
	anchored := n != nil && n.Kind == yaml.AliasNode
	if n = followed(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content) && r.left > 0; i += 2 {
		r.left--
		all = append(all, yamlEntry{n.Content[i], followed(n.Content[i+1]), anchored || n.Content[i+1].Kind == yaml.AliasNode})
	}
	return all
}

// items are those of a sequence, or a value alone.
func (r *yamlReader) items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return []*yaml.Node{n}
	}
	var all []*yaml.Node
	for _, item := range n.Content {
		if r.left--; r.left > 0 {
			all = append(all, followed(item))
		}
	}
	return all
}

// scalars are the texts of a sequence, or that of a value alone.
func (r *yamlReader) scalars(n *yaml.Node) []string {
	var all []string
	for _, item := range r.items(n) {
		if item != nil && item.Kind == yaml.ScalarNode {
			all = append(all, item.Value)
		}
	}
	return all
}

// followed is what an alias stands for. The parser makes none of an alias.
func followed(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// netplanSections are those with definitions, and what they make.
var netplanSections = map[string]string{
	"ethernets": "", "bonds": "bond", "bridges": "bridge", "vlans": "vlan", "vrfs": "vrf",
	"tunnels": "tunnel", "dummy-devices": "dummy", "virtual-ethernets": "veth",
}

// ParseNetplan reads one netplan file; renderer is what it says for all. The
// section's renderer is put into the definitions.
//
// Source: netplan-yaml(5); netplan's parse.c.
func ParseNetplan(data []byte) (defs []NetplanDef, renderer string, err error) {
	if len(data) > maxYAML {
		return nil, "", fmt.Errorf("larger than %d bytes", maxYAML)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, "", err
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, "", nil // nothing but comments
	}
	r := &yamlReader{left: maxYAMLNodes}
	for _, top := range r.entries(document.Content[0]) {
		if top.key.Value != "network" {
			continue
		}
		for _, e := range r.entries(top.value) {
			if e.key.Value == "renderer" && e.value.Kind == yaml.ScalarNode {
				renderer = e.value.Value
			}
			if _, ok := netplanSections[e.key.Value]; ok {
				defs = append(defs, r.section(e)...)
			}
		}
	}
	if r.left <= 0 {
		return nil, "", errYAMLNodes
	}
	return defs, renderer, nil
}

// section are the definitions of one section.
func (r *yamlReader) section(section yamlEntry) []NetplanDef {
	var defs []NetplanDef
	renderer := ""
	for _, e := range r.entries(section.value) {
		if e.key.Value == "renderer" {
			renderer = e.value.Value
			continue
		}
		d := NetplanDef{Section: section.key.Value, ID: e.key.Value, Line: e.key.Line, Values: map[string]string{}, Passthrough: map[string]string{}}
		if renderer != "" {
			d.Values["renderer"] = renderer
		}
		r.definition(&d, e.value, section.anchored || e.anchored)
		defs = append(defs, d)
	}
	return defs
}

func (r *yamlReader) definition(d *NetplanDef, n *yaml.Node, anchored bool) {
	for _, e := range r.entries(n) {
		switch key := e.key.Value; {
		case key == "match":
			d.HasMatch = true
			r.match(&d.Match, e.value, anchored || e.anchored)
		case key == "addresses":
			for _, item := range r.items(e.value) {
				if item != nil && item.Kind == yaml.MappingNode && len(item.Content) > 0 {
					item = item.Content[0] // an address with options
				}
				d.Addresses = append(d.Addresses, r.scalars(item)...)
			}
		case key == "interfaces":
			d.Interfaces = append(d.Interfaces, r.scalars(e.value)...)
		case key == "routes":
			for _, item := range r.items(e.value) {
				d.Gateways = append(d.Gateways, r.defaultRoute(item)...)
			}
		case key == "networkmanager":
			for _, nm := range r.entries(e.value) {
				for _, p := range r.entries(nm.value) {
					d.Passthrough[p.key.Value] = p.value.Value
				}
			}
		case e.value != nil && e.value.Kind == yaml.ScalarNode:
			d.Values[key] = e.value.Value
		}
	}
}

func (r *yamlReader) match(m *NetplanMatch, n *yaml.Node, anchored bool) {
	for _, e := range r.entries(n) {
		texts := r.scalars(e.value)
		switch e.key.Value {
		case "name":
			m.Name, m.NameAt = strings.Join(texts, " "), e.at(anchored)
		case "macaddress":
			m.MAC = hardwareAddress(strings.Join(texts, " "))
		case "driver":
			m.Drivers, m.DriverAt = texts, e.at(anchored)
		}
	}
}

// at is where an entry stands, unless that is in an anchor.
func (e yamlEntry) at(anchored bool) *NetplanEntry {
	if anchored || e.anchored {
		return nil
	}
	return &NetplanEntry{e.key, e.value}
}

// defaultRoute is the gateway of a route to everywhere.
func (r *yamlReader) defaultRoute(n *yaml.Node) []string {
	route := map[string]string{}
	for _, e := range r.entries(n) {
		route[e.key.Value] = e.value.Value
	}
	if to := route["to"]; to != "default" && !isDefault(to) || !inMainTable(route["table"]) || cmp.Or(route["type"], "unicast") != "unicast" {
		return nil
	}
	return []string{route["via"]}
}
