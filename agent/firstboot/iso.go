package firstboot

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
	"unicode/utf16"
)

// Of ISO 9660 file systems, and bounds of what is read of one.
//
// Source: ECMA-119, sections 8.4, 9.1; the Joliet specification; IEEE P1282 (Rock
// Ridge), section 4.1.4.
const (
	isoSector   = 2048
	isoFirst    = 16
	mostVolumes = 32
	mostFolder  = 1 << 20 // bytes of a root folder
	recordHead  = 33      // bytes of a record before its name
	inFolders   = 2       // flag of a record that is a folder
)

var errNotThis = errors.New("is no such file system")

// isoVolume is an ISO 9660 file system, of which the root folder alone is read. Nobody
// has looked at it: go-diskfs, which writes such images here, allocates what they ask
// for when it reads one.
type isoVolume struct {
	r    io.ReaderAt
	name string
	root []byte // its record
	wide bool   // names are UCS-2, as Joliet has them
}

func openISO(r io.ReaderAt) (volume, error) {
	v := &isoVolume{r: r}
	for n := range int64(mostVolumes) {
		head := make([]byte, isoSector)
		if _, err := r.ReadAt(head, (isoFirst+n)*isoSector); err != nil || string(head[1:6]) != "CD001" || head[0] == 255 {
			break
		}
		v.descriptor(head)
	}
	if v.root == nil {
		return nil, errNotThis
	}
	return v, nil
}

// descriptor takes a volume descriptor: the names of Joliet's tree are whole.
func (v *isoVolume) descriptor(head []byte) {
	if binary.LittleEndian.Uint16(head[128:]) != isoSector {
		return
	}
	switch escape := string(head[88:91]); {
	case head[0] == 1 && v.name == "":
		v.name = strings.TrimRight(string(head[40:72]), " \x00")
		if v.root == nil {
			v.root = head[156:190]
		}
	case head[0] == 2 && (escape == "%/@" || escape == "%/C" || escape == "%/E"):
		v.root, v.wide = head[156:190], true
	}
}

func (v *isoVolume) label() string { return v.name }

// read is what a record's extent holds.
func (v *isoVolume) read(record []byte, most int64) ([]byte, error) {
	at, size := int64(binary.LittleEndian.Uint32(record[2:])), int64(binary.LittleEndian.Uint32(record[10:]))
	if size > most {
		return nil, errTooLarge
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(v.r, at*isoSector, size), b); err != nil {
		return nil, errors.New("was cut short")
	}
	return b, nil
}

func (v *isoVolume) open(name string, most int64) ([]byte, error) {
	folder, err := v.read(v.root, mostFolder)
	if err != nil {
		return nil, err
	}
	for at := 0; at < len(folder); {
		length := int(folder[at])
		if length == 0 { // the rest of this sector
			at = (at/isoSector + 1) * isoSector
			continue
		}
		if length < recordHead+1 || at+length > len(folder) || recordHead+int(folder[at+32]) > length {
			return nil, errors.New("has a damaged root folder")
		}
		record := folder[at : at+length]
		if record[25]&inFolders == 0 && strings.EqualFold(v.nameOf(record), name) {
			return v.read(record, most)
		}
		at += length
	}
	return nil, fs.ErrNotExist
}

// nameOf is a record's name: Joliet's, Rock Ridge's, or the first one without its version.
func (v *isoVolume) nameOf(record []byte) string {
	length := int(record[32])
	raw := record[recordHead : recordHead+length]
	if v.wide {
		var units []uint16
		for i := 0; i+1 < len(raw); i += 2 {
			units = append(units, binary.BigEndian.Uint16(raw[i:]))
		}
		return plainISO(string(utf16.Decode(units)))
	}
	if name := rockRidge(record[min(recordHead+length+(length+1)%2, len(record)):]); name != "" {
		return name
	}
	return plainISO(string(raw))
}

func plainISO(name string) string {
	name, _, _ = strings.Cut(name, ";")
	return strings.TrimSuffix(name, ".")
}

// rockRidge is the name in a record's system use fields.
func rockRidge(fields []byte) (name string) {
	for len(fields) >= 4 {
		length := int(fields[2])
		if length < 4 || length > len(fields) {
			return name
		}
		if string(fields[:2]) == "NM" && length > 5 {
			name += string(fields[5:length])
		}
		fields = fields[length:]
	}
	return name
}
