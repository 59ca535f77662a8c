package luks

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// head2 is how many bytes a header of version 2 has in front of its JSON.
const head2 = 4096

// sizes2 are those that a header of version 2 may have, its JSON included. Its second
// copy lies at that offset.
//
// Source: LUKS2 On-Disk Format Specification 1.1.1, table 1.
var sizes2 = []int64{16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20}

// read2 reads the newer of the two copies that is whole.
func read2(r io.ReaderAt, size int64) (*Header, error) {
	best, sequence := []byte(nil), uint64(0)
	var uuid string
	for _, at := range slices.Concat([]int64{0}, sizes2) {
		b, err := copy2(r, at, size)
		if err != nil {
			return nil, err
		}
		if n := sequenceOf(b); b != nil && (best == nil || n > sequence) {
			best, sequence, uuid = b[head2:], n, text(b[168:208])
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: neither of its copies is whole", ErrHeader)
	}
	h, err := parse2(best, size)
	if err != nil {
		return nil, err
	}
	h.UUID = uuid
	return h, nil
}

func sequenceOf(b []byte) uint64 {
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b[16:])
}

// copy2 reads a copy of the header; nil if there is none that is whole.
func copy2(r io.ReaderAt, at, size int64) ([]byte, error) {
	b := make([]byte, head2)
	if at > size-head2 {
		return nil, nil
	}
	if _, err := r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	want := magicOther
	if at == 0 {
		want = magic
	}
	be := binary.BigEndian
	length := int64(be.Uint64(b[8:]))
	if string(b[:6]) != want || be.Uint16(b[6:]) != 2 || !slices.Contains(sizes2, length) || int64(be.Uint64(b[256:])) != at {
		return nil, nil
	}
	if at > 0 && at != length || at > size-length || text(b[72:104]) != "sha256" {
		return nil, nil
	}
	whole := make([]byte, length)
	if _, err := r.ReadAt(whole, at); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	sum := bytes.Clone(whole[448 : 448+sha256.Size])
	clear(whole[448:512])
	if got := sha256.Sum256(whole); !bytes.Equal(sum, got[:]) {
		return nil, nil
	}
	return whole, nil
}

// number is an integer that JSON has as a text, or as one of its own.
type number int64

func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(string(bytes.Trim(b, `"`)), 10, 64)
	*n = number(v)
	return err
}

// metadata is the JSON of version 2, as far as it is used.
type metadata struct {
	Keyslots map[string]struct {
		Type    string `json:"type"`
		KeySize number `json:"key_size"`
		AF      struct {
			Type    string `json:"type"`
			Stripes number `json:"stripes"`
			Hash    string `json:"hash"`
		} `json:"af"`
		Area struct {
			Type       string `json:"type"`
			Offset     number `json:"offset"`
			Encryption string `json:"encryption"`
			KeySize    number `json:"key_size"`
		} `json:"area"`
		KDF struct {
			Type       string `json:"type"`
			Hash       string `json:"hash"`
			Iterations number `json:"iterations"`
			Time       number `json:"time"`
			Memory     number `json:"memory"` // KiB
			CPUs       number `json:"cpus"`
			Salt       []byte `json:"salt"`
		} `json:"kdf"`
		Priority *number `json:"priority"`
	} `json:"keyslots"`
	Segments map[string]struct {
		Type       string          `json:"type"`
		Offset     number          `json:"offset"`
		Size       string          `json:"size"`
		IVTweak    number          `json:"iv_tweak"`
		Encryption string          `json:"encryption"`
		SectorSize number          `json:"sector_size"`
		Integrity  json.RawMessage `json:"integrity"`
	} `json:"segments"`
	Digests map[string]struct {
		Type       string   `json:"type"`
		Keyslots   []string `json:"keyslots"`
		Segments   []string `json:"segments"`
		Hash       string   `json:"hash"`
		Iterations number   `json:"iterations"`
		Salt       []byte   `json:"salt"`
		Digest     []byte   `json:"digest"`
	} `json:"digests"`
	Config struct {
		Requirements struct {
			Mandatory []string `json:"mandatory"`
		} `json:"requirements"`
	} `json:"config"`
}

// maxSlots bounds the slots of version 2. Source: cryptsetup lib/luks2/luks2.h,
// LUKS2_KEYSLOTS_MAX.
const maxSlots = 32

// maxJSON bounds the JSON of version 2, which has 3 KiB with a slot or two.
const maxJSON = 256 << 10

// parse2 reads the JSON of a header of version 2.
func parse2(text []byte, size int64) (*Header, error) {
	text, _, _ = bytes.Cut(text, []byte{0})
	if len(text) > maxJSON {
		return nil, fmt.Errorf("%w: a description of %d bytes", ErrUnsupported, len(text))
	}
	var m metadata
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if len(m.Config.Requirements.Mandatory) > 0 {
		return nil, fmt.Errorf("%w: it asks for %.100q", ErrUnsupported, m.Config.Requirements.Mandatory)
	}
	if len(m.Segments) != 1 || len(m.Keyslots) > maxSlots {
		return nil, fmt.Errorf("%w: it has %d segments and %d slots", ErrUnsupported, len(m.Segments), len(m.Keyslots))
	}
	h := &Header{Version: 2}
	for name, s := range m.Segments {
		if s.Type != "crypt" || s.Integrity != nil {
			return nil, fmt.Errorf("%w: its segment is of the type %.40q, with integrity: %v", ErrUnsupported, s.Type, s.Integrity != nil)
		}
		h.Start, h.IV, h.Cipher, h.Sector = int64(s.Offset), int64(s.IVTweak), s.Encryption, cmp.Or(int64(s.SectorSize), sector)
		if h.Start < 0 || h.Start > size || h.Sector < sector || h.Sector > 8*sector {
			return nil, fmt.Errorf("%w: sectors of %d bytes from %d", ErrHeader, h.Sector, h.Start)
		}
		if h.Size = (size - h.Start) / h.Sector * h.Sector; s.Size != "dynamic" {
			var err error
			if h.Size, err = strconv.ParseInt(s.Size, 10, 64); err != nil {
				return nil, fmt.Errorf("%w: a segment of %.40q bytes", ErrHeader, s.Size)
			}
		}
		if err := h.slots2(m, name); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// slots2 takes the digest of a segment, and the slots that it is for: those to be
// tried first in front, and those that are only for who asks for them not at all.
func (h *Header) slots2(m metadata, segment string) error {
	found := 0
	for _, d := range m.Digests {
		if !slices.Contains(d.Segments, segment) {
			continue
		}
		found++
		h.digest = digest{kdf: kdf{kind: d.Type, hash: d.Hash, iterations: int64(d.Iterations), salt: d.Salt}, want: d.Digest}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(d.Keyslots))) {
			s, ok := m.Keyslots[name]
			if !ok || s.Type != "luks2" || s.AF.Type != "luks1" || s.Area.Type != "raw" || s.Priority != nil && *s.Priority == 0 {
				continue
			}
			h.slots = append(h.slots, slot{
				name: name, cipher: s.Area.Encryption, size: clamp(s.Area.KeySize), key: clamp(s.KeySize), hash: s.AF.Hash,
				stripes: clamp(s.AF.Stripes), start: int64(s.Area.Offset),
				kdf: kdf{kind: s.KDF.Type, hash: s.KDF.Hash, iterations: int64(s.KDF.Iterations), salt: s.KDF.Salt,
					time: int64(s.KDF.Time), memory: int64(s.KDF.Memory), cpus: int64(s.KDF.CPUs)},
			})
		}
	}
	if found != 1 {
		return fmt.Errorf("%w: its segment has %d digests", ErrUnsupported, found)
	}
	preferred := func(s slot) int {
		if p := m.Keyslots[s.name].Priority; p != nil {
			return -int(min(*p, 2))
		}
		return -1
	}
	slices.SortStableFunc(h.slots, func(a, b slot) int { return cmp.Compare(preferred(a), preferred(b)) })
	return nil
}

// clamp is a number that is refused later if it is too large.
func clamp(n number) int { return int(max(-1, min(n, 1<<20))) }
