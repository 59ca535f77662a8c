package lvm

import (
	"bytes"
	"strings"
	"testing"
)

func FuzzGroup(f *testing.F) {
	f.Add([]byte(group(1)))
	f.Add([]byte(broken("stripe_size = 128", "stripe_size = 8")))
	f.Add([]byte(`a{seqno=1 extent_size=1 x="\"" y=[] z=[1,"2",]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		g, err := parseGroup(text)
		if err != nil {
			return
		}
		for _, v := range g.Volumes {
			if v.Size < 0 || strings.ContainsAny(v.Name, "/ \x00") || v.Name == ".." || g.Name == ".." {
				t.Errorf("%q gives %+v", text, v)
			}
			if sum := sizeOf(v.Segments); v.Problem == "" && sum != v.Size || v.Problem != "" && sum > 0 {
				t.Errorf("%q gives segments of %d bytes for %+v", text, sum, v)
			}
		}
	})
}

// sizeOf adds up segments that a reader can follow; -1 for others.
func sizeOf(segments []Segment) (sum int64) {
	for _, s := range segments {
		n := int64(len(s.Stripes))
		if n == 0 || s.Size <= 0 || (n > 1) != (s.Chunk > 0) || n > 1 && s.Size/n%s.Chunk != 0 {
			return -1
		}
		for _, p := range s.Stripes {
			if p.Start < 0 || p.Start+s.Size/n < 0 {
				return -1
			}
		}
		sum += s.Size
	}
	return sum
}

func FuzzRead(f *testing.F) {
	f.Add(bytes.TrimRight(label(8<<10, 512, group(1)), "\x00"))
	f.Add(bytes.TrimRight(label(8<<10, 8000, group(1), group(2)), "\x00"))
	f.Fuzz(func(_ *testing.T, head []byte) {
		if len(head) > 1<<20 {
			return
		}
		Read(disk{head}, int64(len(head)))
		Read(disk{head}, size)
	})
}
