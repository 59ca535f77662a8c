package md

import "testing"

func FuzzAssemble(f *testing.F) {
	f.Add(whole(0).block(4096), whole(1).block(4096), int64(4096))
	f.Add(whole(0).block(0), striped(0, original, hasLayout, 1, 2)[1].block(0), int64(0))
	at := versions[0].at(size)
	f.Add(old(0, func([]uint32) {})[at], old(1, func([]uint32) {})[at], at)
	f.Fuzz(func(t *testing.T, one, two []byte, at int64) {
		var all []Device
		for i, b := range [][]byte{one, two} {
			for _, v := range versions { // sums are not what is looked for
				block := make([]byte, superSize)
				copy(block, b)
				at := v.at(size)
				if m, err := v.parse(summed(block), at, size); err == nil {
					all = append(all, Device{string(rune('a' + i)), m})
				}
			}
			Read(disk{at: b}, size)
			Read(disk{at: b}, int64(len(b)))
		}
		for _, a := range Assemble(all) {
			check(t, a)
		}
	})
}

// summed is a block with the sums that both versions ask for, as far as they fit.
func summed(b []byte) []byte {
	put := func(at int, sum uint32) {
		b[at], b[at+1], b[at+2], b[at+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	}
	if b[4] == 0 {
		w := make([]uint32, words0)
		for i := range w {
			w[i] = uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24
		}
		put(152, sum0(w))
		return b
	}
	if count := uint32(b[220]) | uint32(b[221])<<8; b[222] == 0 && b[223] == 0 && count <= maxDisks {
		put(216, sum1(b, count))
	}
	return b
}

// check holds an array to what a reader relies on.
func check(t *testing.T, a Array) {
	sum := int64(0)
	for _, s := range a.Segments {
		n := int64(len(s.On))
		if n == 0 || s.Size <= 0 || s.Size%sector != 0 || s.Chunk > 0 && (s.Copies || s.Size/n%s.Chunk != 0) || s.Chunk == 0 && n > 1 && !s.Copies {
			t.Errorf("a segment %+v of %+v", s, a)
		}
		length := s.Size
		if s.Chunk > 0 {
			length /= n
		}
		for _, p := range s.On {
			if p.Start < 0 || p.Start%sector != 0 || p.Start > size-length {
				t.Errorf("%+v of %+v lies behind the end of a device", s, a)
			}
		}
		sum += s.Size
	}
	if a.Size < 0 || a.Size > maxSize || len(a.Segments) > 0 && (sum != a.Size || a.Problem != "" || a.Unmapped != "") {
		t.Errorf("%+v", a)
	}
}
