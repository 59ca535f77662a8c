package downloads

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const mostNested = 32 // elements of a descriptor in one another

// descriptor is an OVF whose properties are given values: everything else of it stays as
// it is, byte for byte.
//
// Source: DMTF DSP0243, 6.2 and 9.5.
type descriptor struct {
	old    []byte
	values map[string]string // by key; those that were given are taken out
	out    bytes.Buffer
	copied int64    // how much of old is in out
	files  []string // that it refers to
}

// tell is a descriptor with values, which refers to one file, its disk.
func tell(old []byte, disk string, values map[string]string) ([]byte, error) {
	d := &descriptor{old: old, values: maps.Clone(values)}
	if err := d.walk(); err != nil {
		return nil, fmt.Errorf("%w: its descriptor %w", ErrBase, err)
	}
	switch {
	case len(d.files) != 1 || d.files[0] != disk:
		return nil, fmt.Errorf("%w: its descriptor refers to %q, and not to the disk %s alone", ErrBase, d.files, disk)
	case len(d.values) > 0:
		return nil, fmt.Errorf("%w: it is of another version, and has no property %s: take the OVA of this version", ErrBase, strings.Join(slices.Sorted(maps.Keys(d.values)), ", "))
	}
	d.out.Write(old[d.copied:])
	return d.out.Bytes(), nil
}

func (d *descriptor) walk() error {
	in := xml.NewDecoder(bytes.NewReader(d.old))
	var path []string
	for {
		begins := in.InputOffset()
		token, err := in.RawToken()
		if errors.Is(err, io.EOF) && len(path) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("is no XML: %w", err)
		}
		switch t := token.(type) {
		case xml.Directive:
			return errors.New("has a document type, which no OVF has")
		case xml.StartElement:
			if path = append(path, t.Name.Local); len(path) > mostNested {
				return fmt.Errorf("is nested deeper than %d", mostNested)
			}
			if err := d.element(path, t, begins, in.InputOffset()); err != nil {
				return err
			}
		case xml.EndElement:
			if len(path) == 0 || path[len(path)-1] != t.Name.Local {
				return errors.New("is no XML: an element ends that has not begun")
			}
			path = path[:len(path)-1]
		}
	}
}

// element looks at one that begins and ends where its tag does.
func (d *descriptor) element(path []string, e xml.StartElement, begins, ends int64) error {
	switch strings.Join(path, "/") {
	case "Envelope/References/File":
		if attribute(e, "chunkSize") != "" || attribute(e, "compression") != "" {
			return errors.New("has its disk compressed or in chunks")
		}
		d.files = append(d.files, attribute(e, "href"))
	case "Envelope/VirtualSystem/ProductSection/Property":
		value, told := d.values[attribute(e, "key")]
		if !told {
			return nil
		}
		delete(d.values, attribute(e, "key"))
		d.out.Write(d.old[d.copied:begins])
		d.out.Write(withValue(e, value, bytes.HasSuffix(d.old[begins:ends], []byte("/>"))))
		d.copied = ends
	}
	return nil
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// withValue is a property's tag with another value.
func withValue(e xml.StartElement, value string, closed bool) []byte {
	var b bytes.Buffer
	b.WriteString("<" + spelled(e.Name))
	i := slices.IndexFunc(e.Attr, func(a xml.Attr) bool { return a.Name.Local == "value" })
	if i < 0 {
		i = len(e.Attr)
		e.Attr = append(e.Attr, xml.Attr{Name: xml.Name{Space: "ovf", Local: "value"}})
	}
	e.Attr[i].Value = value
	for _, a := range e.Attr {
		b.WriteString(" " + spelled(a.Name) + `="`)
		xml.EscapeText(&b, []byte(a.Value)) // a bytes.Buffer takes all
		b.WriteString(`"`)
	}
	if closed {
		b.WriteString("/")
	}
	b.WriteString(">")
	return b.Bytes()
}

// spelled is a name as it stands there.
func spelled(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}
