package pipeline

import (
	"fmt"
	"strings"

	"hyper2kvm/fixers/guest"
)

// growText is what is done about a disk, for people.
func growText(s guest.Resize) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: from %s to %s\n", s.Disk, amount(s.From), amount(s.To))
	if s.Backup {
		fmt.Fprintf(&b, "  the second copy of its GPT moves to its end\n")
	}
	for _, p := range s.Partitions {
		fmt.Fprintf(&b, "  %s (partition %d) ends at %s instead of %s\n", p.Name, p.Number, amount(p.To), amount(p.From))
	}
	if m := s.Member; m != nil {
		fmt.Fprintf(&b, "  the volume group %s gains %s on %s (%d extents instead of %d)\n", m.Group, amount((m.To-m.From)*m.Size), m.Device, m.To, m.From)
	}
	if v := s.Volume; v != nil {
		fmt.Fprintf(&b, "  the logical volume %s grows from %s to %s%s\n", v.Name, amount(v.From), amount(v.To), apart(*v))
	}
	if f := s.Filesystem; f != nil {
		fmt.Fprintf(&b, "  %s on %s grows from %s to %s\n", f.Type, f.Device, amount(f.From), amount(f.To))
	}
	if s.Unused != "" {
		fmt.Fprintf(&b, "  not put to use: %s\n", s.Unused)
	}
	return b.String()
}

// apart tells of a volume that will lie in one piece more.
func apart(v guest.GrownVolume) string {
	if v.Apart {
		return ", with another piece behind its neighbours"
	}
	return ""
}

// amount is a number of bytes, exactly.
func amount(n int64) string {
	for _, u := range []struct {
		shift int
		name  string
	}{{30, "GiB"}, {20, "MiB"}} {
		if n > 0 && n%(1<<u.shift) == 0 {
			return fmt.Sprintf("%d %s", n>>u.shift, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
