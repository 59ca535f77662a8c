package firstboot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
)

// environment is the name space of OVF environments.
// Source: DMTF DSP0243, chapter 11; DSP8027.
const environment = "http://schemas.dmtf.org/ovf/environment/1"

// Bounds of an OVF environment.
const (
	mostEnvironment = 1 << 20 // bytes
	mostDepth       = 16
)

// readOVF reads an OVF environment: the properties of its own section, not those of
// other machines of the vApp.
func readOVF(data []byte) *source {
	s := newSource(fromOVF)
	if len(data) > mostEnvironment {
		s.wrong("has more than %d bytes, and was not read", mostEnvironment)
		return s
	}
	if err := s.properties(xml.NewDecoder(bytes.NewReader(data))); err != nil {
		s.wrong("%v", err)
	}
	return s
}

// properties takes Environment/PropertySection/Property. encoding/xml expands no
// entities but XML's own five, and reads nothing from elsewhere.
func (s *source) properties(d *xml.Decoder) error {
	path := make([]xml.Name, 0, mostDepth)
	for {
		token, err := d.Token()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			line, _ := d.InputPos()
			return fmt.Errorf("is no XML in line %d: a value may hold one of < & \" that whoever deployed the appliance has not escaped: write others", line)
		}
		switch t := token.(type) {
		case xml.Directive:
			return errors.New("has a document type, which is not read: give one as vSphere writes it")
		case xml.StartElement:
			if len(path) == mostDepth {
				return fmt.Errorf("is nested deeper than %d: give one as vSphere writes it", mostDepth)
			}
			if path = append(path, t.Name); isProperty(path) {
				s.property(t)
			}
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
}

func isProperty(path []xml.Name) bool {
	names := [...]string{"Environment", "PropertySection", "Property"}
	if len(path) != len(names) {
		return false
	}
	for i, n := range path {
		if n.Space != environment || n.Local != names[i] {
			return false
		}
	}
	return true
}

func (s *source) property(e xml.StartElement) {
	var name, value string
	for _, a := range e.Attr {
		switch a.Name {
		case xml.Name{Space: environment, Local: "key"}:
			name = a.Value
		case xml.Name{Space: environment, Local: "value"}:
			value = a.Value
		}
	}
	s.say(name, value)
}
