package luks

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// head1 is how many bytes a header of version 1 has without its slots' keys.
const head1 = 592

// slots1 is how many slots it has, and active the state of one that is in use.
const (
	slots1 = 8
	active = 0x00ac71f3
)

// parse1 reads a header of version 1.
//
// Source: LUKS On-Disk Format Specification 1.2.3, figure 1.
func parse1(b []byte, size int64) (*Header, error) {
	be := binary.BigEndian
	key := int(be.Uint32(b[108:]))
	hash := text(b[72:104])
	h := &Header{
		Version: 1, UUID: text(b[168:208]), Sector: sector, Start: int64(be.Uint32(b[104:])) * sector,
		Cipher: text(b[8:40]) + "-" + text(b[40:72]),
		digest: digest{kdf: kdf{kind: pbkdf, hash: hash, iterations: int64(be.Uint32(b[164:])), salt: b[132:164]}, want: b[112:132]},
	}
	h.Size = (size - h.Start) / sector * sector
	for i := range slots1 {
		s := b[208+48*i:]
		if be.Uint32(s) != active {
			continue
		}
		h.slots = append(h.slots, slot{
			name: fmt.Sprint(i), cipher: h.Cipher, size: key, key: key, hash: hash, stripes: int(min(be.Uint32(s[44:]), maxStripes+1)),
			start: int64(be.Uint32(s[40:])) * sector,
			kdf:   kdf{kind: pbkdf, hash: hash, iterations: int64(be.Uint32(s[4:])), salt: s[8:40]},
		})
	}
	return h, nil
}

// text is a name of fixed length.
func text(b []byte) string {
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name)
}
