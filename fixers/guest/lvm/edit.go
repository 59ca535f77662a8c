package lvm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// edit is a piece of a text that is replaced.
type edit struct {
	start, end int
	text       string
}

// grown is the text of a group that has grown.
func grown(text []byte, g Growth) ([]byte, error) {
	top, err := parseText(text)
	if err != nil {
		return nil, err
	}
	vg := top.sections[0]
	seq, err := vg.number("seqno", maxSeq)
	if err != nil {
		return nil, err
	}
	edits := []edit{vg.set(text, "seqno", seq+1)}
	named := ""
	for _, pv := range vg.within("physical_volumes") {
		if pv.one("id") == g.Member {
			named = pv.name
			edits = append(edits, pv.set(text, "dev_size", g.Size/sector), pv.set(text, "pe_count", g.Extents))
		}
	}
	for _, lv := range vg.within("logical_volumes") {
		if g.Volume != "" && lv.one("id") == g.Volume {
			more, err := lengthened(text, lv, named, g)
			if err != nil {
				return nil, err
			}
			edits = append(edits, more...)
		}
	}
	return apply(text, edits), nil
}

// lengthened are the edits that add extents of a member to a volume: to its last
// segment, if they follow that, else as one more.
func lengthened(text []byte, lv *section, member string, g Growth) ([]edit, error) {
	last := lastSegment(lv)
	count, err := last.number("extent_count", maxExtents)
	if err != nil {
		return nil, err
	}
	if on := last.list("stripes"); len(on) == 2 && on[0] == member && on[1] == fmt.Sprint(g.At-count) {
		return []edit{last.set(text, "extent_count", count+g.Count)}, nil
	}
	first, err := last.number("start_extent", maxExtents)
	if err != nil {
		return nil, err
	}
	n := int64(len(lv.sections)) + 1
	segment := fmt.Sprintf("segment%d {\nstart_extent = %d\nextent_count = %d\n\ntype = \"striped\"\nstripe_count = 1\n\nstripes = [\n%q, %d\n]\n}\n",
		n, first+count, g.Count, member, g.At)
	return []edit{lv.set(text, "segment_count", n), {lv.end, lv.end, segment}}, nil
}

// set is the edit that gives a number to a setting, and takes away the comment behind
// it, which tells the old one to people. What is not there stays away.
func (s *section) set(text []byte, name string, value int64) edit {
	for _, set := range slices.Backward(s.settings) {
		if set.Name != name {
			continue
		}
		line, _, _ := bytes.Cut(text[set.End:], []byte("\n"))
		end := set.End
		if bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) {
			end += len(line)
		}
		return edit{set.Start, end, fmt.Sprint(value)}
	}
	return edit{}
}

// apply makes edits, which touch different pieces of a text.
func apply(text []byte, edits []edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	var out strings.Builder
	at := 0
	for _, e := range edits {
		out.Write(text[at:e.start])
		out.WriteString(e.text)
		at = e.end
	}
	out.Write(text[at:])
	return []byte(out.String())
}
