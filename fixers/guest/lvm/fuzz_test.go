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

// A text that can be read can be grown, or is refused before anything is written.
func FuzzGrow(f *testing.F) {
	f.Add([]byte(alone(7)), int64(4), int64(10))
	f.Add([]byte(alone(7)), int64(9), int64(2))
	f.Add([]byte(group(7)), int64(9), int64(2))
	f.Fuzz(func(t *testing.T, text []byte, at, count int64) {
		if len(text) > 16<<10 || len(text) == 0 {
			return
		}
		g := plan
		g.At, g.Count = at, count
		r := pv(64<<10, 512, string(text))
		before := bytes.Clone(r.data)
		err := Grow([]Device{r}, g)
		if err != nil && !bytes.Equal(before, r.data) {
			t.Errorf("%q was written, and then refused: %v", text, err)
		}
		if _, again := Read(r, r.Size()); err == nil && again != nil {
			t.Errorf("%q was grown to what is not read: %v", text, again)
		}
	})
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
