package library

import (
	"bytes"
	"encoding/binary"
	"io"
	"path"
	"strings"
	"unicode/utf16"
)

// Of ISO 9660 images, and bounds of what is read of one.
//
// Source: ECMA-119, sections 8.4, 9.1; the Joliet specification.
const (
	sector       = 2048
	firstVolume  = 16
	mostVolumes  = 32
	mostFolders  = 5000
	mostFiles    = 50_000
	mostRecords  = 16 << 20 // bytes of all folders' records
	mostDepth    = 8
	recordHead   = 33 // bytes of a record before its name
	folderRecord = 2  // flag
)

// image is an ISO 9660 image. Nobody has looked at it.
type image struct {
	r     io.ReaderAt
	size  int64
	id    string
	wide  bool // names are UCS-2, as Joliet has them
	root  extent
	files map[string]extent // by path, in lower case

	folders int
	records int64 // bytes
}

// extent is where a file is, bytes.
type extent struct{ at, size int64 }

// openImage reads the names in an image, of Joliet's tree where there is one: the other
// may have cut them short.
func openImage(r io.ReaderAt, size int64) (*image, error) {
	v := &image{r: r, size: size, files: map[string]extent{}}
	if err := v.volume(); err != nil {
		return nil, err
	}
	return v, v.folder("", v.root, 0)
}

// volume finds the root of the tree.
func (v *image) volume() error {
	found := false
	for n := range int64(mostVolumes) {
		head, err := v.read(extent{(firstVolume + n) * sector, sector})
		if err != nil || string(head[1:6]) != "CD001" {
			break
		}
		kind := head[0]
		if kind == 255 {
			break
		}
		joliet := kind == 2 && head[88] == '%' && head[89] == '/' && bytes.IndexByte([]byte("@CE"), head[90]) >= 0
		if kind != 1 && !joliet || binary.LittleEndian.Uint16(head[128:]) != sector {
			continue
		}
		if kind == 1 {
			v.id = strings.TrimRight(string(head[40:72]), " \x00")
			if end := int64(binary.LittleEndian.Uint32(head[80:])) * sector; end > v.size {
				return refused("the image was cut short: it has %d bytes of %d", v.size, end)
			}
		}
		if found = true; kind == 1 && !v.wide || joliet {
			v.root, v.wide = extentOf(head[156:190]), joliet
		}
	}
	if !found {
		return refused("it is no ISO 9660 image")
	}
	return nil
}

func extentOf(record []byte) extent {
	return extent{int64(binary.LittleEndian.Uint32(record[2:])) * sector, int64(binary.LittleEndian.Uint32(record[10:]))}
}

// read is what an extent holds.
func (v *image) read(e extent) ([]byte, error) {
	if e.at < 0 || e.size < 0 || e.at > v.size-e.size {
		return nil, refused("the image was cut short: it ends at %d, and something of it lies at %d", v.size, e.at+e.size)
	}
	b := make([]byte, e.size)
	_, err := io.ReadFull(io.NewSectionReader(v.r, e.at, e.size), b)
	return b, err
}

func (v *image) folder(name string, e extent, depth int) error {
	v.folders++
	if v.records += e.size; v.folders > mostFolders || depth > mostDepth || v.records > mostRecords {
		return refused("the image's folders are too many, too deep or too large")
	}
	records, err := v.read(e)
	if err != nil {
		return err
	}
	for at := 0; at < len(records); {
		length := int(records[at])
		if length == 0 { // the rest of this sector
			at = (at/sector + 1) * sector
			continue
		}
		if length < recordHead+1 || at+length > len(records) {
			return refused("the image's folder %.200q is damaged", name)
		}
		if err := v.record(name, records[at:at+length], depth); err != nil {
			return err
		}
		at += length
	}
	return nil
}

// record is a file or a folder.
func (v *image) record(folder string, r []byte, depth int) error {
	length := int(r[32])
	if recordHead+length > len(r) {
		return refused("the image's folder %.200q is damaged", folder)
	}
	raw := r[recordHead : recordHead+length]
	if length == 1 && raw[0] <= 1 { // itself, and the one that it is in
		return nil
	}
	name := path.Join(folder, v.text(raw))
	if r[25]&folderRecord != 0 {
		return v.folder(name, extentOf(r), depth+1)
	}
	if len(v.files) == mostFiles {
		return refused("the image holds more than %d files", mostFiles)
	}
	v.files[name] = extentOf(r)
	return nil
}

// text is a name, in lower case and without a version.
func (v *image) text(raw []byte) string {
	name := string(raw)
	if v.wide {
		var units []uint16
		for i := 0; i+1 < len(raw); i += 2 {
			units = append(units, binary.BigEndian.Uint16(raw[i:]))
		}
		name = string(utf16.Decode(units))
	}
	name, _, _ = strings.Cut(name, ";")
	return strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(name, "."), "/", "_"))
}
