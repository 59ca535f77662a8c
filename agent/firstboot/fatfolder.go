package firstboot

import (
	"encoding/binary"
	"iter"
	"strings"
	"unicode/utf16"
)

// fatFolder is a folder's entries.
//
// Source: Microsoft, FAT: General Overview of On-Disk Format, 1.03, long names.
type fatFolder []byte

const (
	longName = 0x0F // attributes of an entry that is a part of a long name
	lastPart = 0x40
	mostPart = 20
)

// all are the entries that are in use, parts of long names too.
func (f fatFolder) all() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for at := 0; at+fatEntry <= len(f) && f[at] != 0; at += fatEntry {
			if e := f[at : at+fatEntry]; e[0] != 0xE5 && !yield(e) {
				return
			}
		}
	}
}

// find is the entry of a file by its long name or its short one, in capitals or not.
func (f fatFolder) find(name string) []byte {
	var long longNames
	for e := range f.all() {
		if e[11] == longName {
			long.part(e)
			continue
		}
		if e[11]&0x18 == 0 && (strings.EqualFold(long.of(e), name) || strings.EqualFold(shortName(e), name)) {
			return e
		}
		long = longNames{}
	}
	return nil
}

func shortName(e []byte) string {
	name, extension := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if extension == "" {
		return name
	}
	return name + "." + extension
}

// longNames collects the parts of one long name, which come last part first.
type longNames struct {
	units []uint16
	next  byte
	sum   byte
}

func (l *longNames) part(e []byte) {
	n := e[0] &^ lastPart
	switch {
	case e[0]&lastPart != 0 && n > 0 && n <= mostPart:
		*l = longNames{next: n, sum: e[13]}
	case n != l.next || e[13] != l.sum:
		*l = longNames{}
	}
	if l.next == 0 {
		return
	}
	l.next--
	var units []uint16
	for _, span := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for at := span[0]; at < span[1]; at += 2 {
			units = append(units, binary.LittleEndian.Uint16(e[at:]))
		}
	}
	l.units = append(units, l.units...)
}

// of is the long name if it is that of a short entry.
func (l *longNames) of(e []byte) string {
	var sum byte
	for _, c := range e[:11] {
		sum = sum<<7 | sum>>1
		sum += c
	}
	if len(l.units) == 0 || l.next != 0 || sum != l.sum {
		return ""
	}
	name, _, _ := strings.Cut(string(utf16.Decode(l.units)), "\x00")
	return name
}
