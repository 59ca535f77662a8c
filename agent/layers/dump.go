package layers

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// Dump writes the value as YAML, with the origin of each scalar and of each empty map
// or list in a comment beside it.
func (v *Value) Dump() (string, error) {
	data, err := yaml.Dump(v.node(), yaml.WithLineWidth(-1))
	return string(data), err
}

func (v *Value) node() *yaml.Node {
	switch {
	case len(v.Fields) > 0:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range v.names() {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, v.Fields[name].node())
		}
		return n
	case len(v.List) > 0:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v.List {
			n.Content = append(n.Content, item.node())
		}
		return n
	}
	n := &yaml.Node{}
	switch {
	case v.Fields != nil:
		n.Kind, n.Style = yaml.MappingNode, yaml.FlowStyle
	case v.List != nil:
		n.Kind, n.Style = yaml.SequenceNode, yaml.FlowStyle
	default:
		_ = n.Dump(v.Scalar) // a scalar of ours is one of YAML's
	}
	n.LineComment = strings.Join(strings.Fields(v.Origin.String()), " ")
	return n
}
