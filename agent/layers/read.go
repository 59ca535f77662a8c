package layers

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v4"
)

// Bounds of what is read: no file of people's comes near them.
const (
	maxDepth  = 32
	maxValues = 1 << 20 // of a file, what its aliases stand for included
)

// ReadFile reads a file of at most so many bytes. That a file is not there is
// fs.ErrNotExist.
func ReadFile(path string, atMost int64) (*Value, error) {
	// A named pipe is not waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, atMost+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > atMost {
		return nil, fmt.Errorf("%s is larger than %d bytes: split it", path, atMost)
	}
	return Read(path, data)
}

// Read reads one YAML document, a map, or nothing, which is an empty one. The name is
// the file's, for origins. Fields that are there twice are refused, and so are merge
// keys and tags of their own; aliases stand for what they name, within bounds.
func Read(name string, data []byte) (*Value, error) {
	if separators(data) > maxValues {
		return nil, Fault{Origin: Origin{File: name, Line: 1}, Words: "holds too many values: split it"}
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	var document, another yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF):
		return &Value{Origin: Origin{File: name, Line: 1}, Fields: map[string]*Value{}}, nil
	case err != nil:
		return nil, syntax(name, err)
	}
	switch err := loader.Load(&another); {
	case err == nil:
		return nil, Fault{Origin: Origin{File: name, Line: another.Line}, Words: "begins a second document: a file has one"}
	case !errors.Is(err, io.EOF):
		return nil, syntax(name, err)
	}
	r := reader{file: name}
	v, err := r.value(&document, document.Line, 0)
	switch {
	case err != nil:
		return nil, err
	case v.null():
		return &Value{Origin: v.Origin, Fields: map[string]*Value{}}, nil
	case v.Fields == nil:
		return nil, Fault{Origin: v.Origin, Words: "does not begin with a field: write name: value"}
	}
	return v, nil
}

// separators counts what stands before a value: each takes one, so there are not more
// of them, and the parser is not given what would fill the memory.
func separators(data []byte) (n int) {
	for _, b := range data {
		if strings.IndexByte(",:-?[{\n", b) >= 0 {
			n++
		}
	}
	return n
}

// syntax is what the parser says, where and without its stages. It cites no value.
func syntax(name string, err error) error {
	fault := Fault{Origin: Origin{File: name, Line: 1}, Words: "is not YAML"}
	if said, ok := errors.AsType[*yaml.LoadError](err); ok {
		fault.Line = max(1, cmp.Or(said.ContextMark.Line, said.Mark.Line)) // where it began, not where the file ended
		fault.Words += ": " + said.Message
	}
	return fault
}

// reader makes values of one file's nodes.
type reader struct {
	file   string
	values int
}

func (r *reader) fault(n *yaml.Node, format string, args ...any) error {
	return Fault{Origin: Origin{File: r.file, Line: n.Line}, Words: fmt.Sprintf(format, args...)}
}

// value makes a value of a node; line is where it is said.
func (r *reader) value(n *yaml.Node, line, depth int) (*Value, error) {
	if r.values++; r.values > maxValues {
		return nil, r.fault(n, "what aliases stand for is too much: write it out, or split the file")
	}
	if depth > maxDepth {
		return nil, r.fault(n, "is nested deeper than %d", maxDepth)
	}
	v := &Value{Origin: Origin{File: r.file, Line: line}}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.value(n.Content[0], n.Content[0].Line, depth)
	case yaml.AliasNode:
		return r.value(n.Alias, line, depth+1)
	case yaml.SequenceNode:
		return v, r.list(v, n, depth)
	case yaml.MappingNode:
		return v, r.fields(v, n, depth)
	}
	return v, r.scalar(v, n)
}

func (r *reader) list(v *Value, n *yaml.Node, depth int) error {
	v.List = make([]*Value, len(n.Content))
	for i, item := range n.Content {
		value, err := r.value(item, item.Line, depth+1)
		if err != nil {
			return err
		}
		v.List[i] = value
	}
	return nil
}

func (r *reader) fields(v *Value, n *yaml.Node, depth int) error {
	v.Fields = make(map[string]*Value, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch before := v.Fields[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			return r.fault(key, "a field's name is not text")
		case key.Tag == "!!merge":
			return r.fault(key, "merge keys (<<) are not read: use several files, or write the fields out")
		case before != nil:
			return r.fault(key, "the field %s is there twice, first in line %d: remove one", step(key.Value), before.Line)
		}
		value, err := r.value(n.Content[i+1], key.Line, depth+1)
		if err != nil {
			return err
		}
		v.Fields[key.Value] = value
	}
	return nil
}

// scalar takes numbers and truth as YAML does, and times as the text that they are.
func (r *reader) scalar(v *Value, n *yaml.Node) error {
	switch n.Tag {
	case "!!null":
		return nil
	case "!!str", "!!timestamp":
		v.Scalar = n.Value
		return nil
	case "!!bool", "!!int", "!!float":
	default:
		return r.fault(n, "has the tag %s, which is not read: write the value alone", n.Tag)
	}
	var decoded any
	if err := n.Decode(&decoded); err != nil {
		return r.fault(n, "is no value that can be read: quote it if it is text")
	}
	switch d := decoded.(type) {
	case int:
		v.Scalar = int64(d)
	case float64:
		if math.IsNaN(d) || math.IsInf(d, 0) {
			return r.fault(n, "is no finite number")
		}
		v.Scalar = d
		if d == math.Trunc(d) && math.Abs(d) < 1<<53 {
			v.Scalar = int64(d)
		}
	case bool, int64, uint64:
		v.Scalar = d
	default:
		return r.fault(n, "is no value that can be read: quote it if it is text")
	}
	return nil
}
