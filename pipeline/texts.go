package pipeline

import (
	"cmp"
	"fmt"
	"strings"
	"unicode"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
)

// Printable is text that came from a guest, or may hold some, with all that
// would command a terminal or hide from a reader spelled out: \x1b, \u202e.
// Line breaks and tabs stay.
func Printable(text string) string {
	return spelled(text, func(r rune) bool { return r == '\n' || r == '\t' })
}

// Line is Printable on one line, so that a guest's name with a line break in it
// does not look like a line of ours.
func Line(text string) string {
	return spelled(text, func(r rune) bool { return r == '\t' })
}

func spelled(text string, kept func(rune) bool) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(text[i:], "\ufffd"): // a byte that is no UTF-8
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case kept(r) || unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// cell fits a text into one line, or one cell of a table, of Markdown as what it
// is: none of it becomes HTML, a link or a picture.
func cell(text string) string {
	return escapeMarkdown.Replace(Line(strings.Join(strings.Fields(text), " ")))
}

var escapeMarkdown = strings.NewReplacer("|", `\|`, "<", "&lt;", "&", "&amp;", "[", `\[`, "`", "\\`", "*", `\*`, `\`, `\\`)

// code is a text as code within a line of Markdown.
func code(text string) string {
	fence := strings.Repeat("`", longestRun(text)+1)
	return fence + strings.ReplaceAll(Line(text), "|", `\|`) + fence
}

// fenced is a text as a block of Markdown that ends where the text does.
func fenced(language, text string) string {
	fence := strings.Repeat("`", max(3, longestRun(text)+1))
	return fence + language + "\n" + strings.TrimSuffix(Printable(text), "\n") + "\n" + fence + "\n"
}

// longestRun is how many backticks a text has in a row at most.
func longestRun(text string) int {
	longest, run := 0, 0
	for _, r := range text {
		if run++; r != '`' {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

func systemName(f *inspect.Facts) string {
	if f == nil {
		return "not inspected"
	}
	return fmt.Sprintf("%s %s (%s, %s, read from %s)", f.OS.Name, f.OS.Arch, f.Firmware.Used, f.Init.Value, f.OS.Source)
}

// volumeText tells of an array's state, and of an encryption, too.
func volumeText(v guest.Volume) string {
	text := fmt.Sprintf("%s on %s, %d MiB", v.Name, strings.Join(v.On, ", "), v.Size>>20)
	if a := v.Array; a != nil {
		text += fmt.Sprintf(", %s, md %s", a.Kind, a.Version)
		if a.Lacks > 0 {
			text += fmt.Sprintf(", lacks %d members", a.Lacks)
		}
		if len(a.Stale) > 0 {
			text += ", fallen out " + strings.Join(a.Stale, ", ")
		}
		if a.Dirty {
			text += ", not shut down"
		}
	}
	if v.Crypt != nil {
		text += fmt.Sprintf(", LUKS %d, %s", v.Crypt.Version, v.Crypt.Cipher)
	}
	if why := cmp.Or(v.Problem, v.Unsupported); why != "" {
		text += ": " + why
	}
	return text
}

// filesystemText tells of a replayed journal too: no plan lists it.
func filesystemText(f guest.Filesystem) string {
	text := fmt.Sprintf("%s %s %s %q", f.Device, f.Type, f.UUID, f.Label) + subvolumesText(f.Subvolumes)
	if f.Replayed {
		text += ", its journal was replayed on the overlay"
	}
	if f.Unclean {
		text += ", hibernated or not shut down by Windows, so that it cannot be written"
	}
	return text
}

// subvolumesText tells of subvolumes beside the one that every btrfs has.
func subvolumesText(all []guest.Subvolume) string {
	if len(all) < 2 {
		return ""
	}
	kept, byDefault := 0, "none"
	for _, s := range all {
		if s.ReadOnly {
			kept++
		}
		if s.Default {
			byDefault = s.Path
		}
	}
	return fmt.Sprintf(", %d subvolumes (%d read-only, %s by default)", len(all), kept, byDefault)
}

// mountText names what is mounted as findmnt does: disk0p1[/@home].
func mountText(f inspect.Facts, m inspect.Mount) string {
	device := m.Device
	if s, ok := f.SubvolumeOf(m); ok {
		device = fmt.Sprintf("%s[%s]", device, s.Path)
	}
	return fmt.Sprintf("%s on %s (%s)", device, m.Path, m.Spec)
}

// FactsText is what inspection found, for people; every line ends with where
// it was read.
func FactsText(f inspect.Facts, m machine.Machine) string {
	var b strings.Builder
	line := func(what, value, source string) {
		fmt.Fprintf(&b, "%-12s%s", what, Line(value))
		if source != "" {
			fmt.Fprintf(&b, "  [%s]", Line(source))
		}
		b.WriteByte('\n')
	}
	line("machine", fmt.Sprintf("%s: %d CPUs, %d MiB, %d disks, %d NICs", m.Name, m.CPUs, m.Memory>>20, len(m.Disks), len(m.NICs)), m.Source)
	for _, v := range m.Disks {
		line("disk", diskText(v), v.Path)
	}
	for _, v := range m.NICs {
		line("nic", nicText(v), "")
	}
	line("system", fmt.Sprintf("%s %s", f.OS.Name, f.OS.Arch), f.OS.Source)
	line("firmware", string(f.Firmware.Used), f.Firmware.Source)
	line("init", f.Init.Value, f.Init.Source)
	for _, v := range f.Topology.Volumes {
		line("volume", volumeText(v), "")
	}
	for _, v := range f.Topology.Filesystems {
		line("filesystem", filesystemText(v), "")
	}
	for _, v := range f.Mounts {
		line("mount", mountText(f, v), v.Source)
	}
	for _, v := range f.Bootloaders {
		line("bootloader", v.Kind+" "+v.Config, v.Source)
	}
	for _, v := range f.Kernels {
		line("kernel", fmt.Sprintf("%s, initrd by %s, virtio_blk in %s", v.Version, v.Generator, v.Drivers["virtio_blk"]), v.Source)
	}
	for _, v := range f.Network.Interfaces {
		line("interface", interfaceText(v), v.Source)
	}
	for _, v := range f.Network.Pins {
		line("pin", fmt.Sprintf("%s: %s %s %s", v.Name, v.MAC, v.Driver, v.Path), v.Source)
	}
	for _, v := range f.VMware {
		line("vmware", v.Kind+" "+v.Name, v.Source)
	}
	for _, v := range f.Problems {
		line("problem", v.Value, v.Source)
	}
	return b.String()
}

func diskText(d machine.Disk) string {
	text := fmt.Sprintf("%d MiB, %s", d.Size>>20, cmp.Or(d.Kind, d.Format))
	if d.Was > 0 && d.Was != d.Size {
		text = fmt.Sprintf("%d MiB, to grow to %s", d.Was>>20, text)
	}
	if d.Bus != "" {
		text = strings.Join(strings.Fields(fmt.Sprintf("%s %s", place(d), d.Model)), " ") + ", " + text
	}
	for _, p := range d.Parents {
		text += " on " + p
	}
	return text
}

func nicText(n machine.NIC) string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", n.MAC, n.Model, n.Connection, n.Network)), " ")
}

// interfaceText is one configured interface: what it is for, and what it gives.
func interfaceText(i inspect.Interface) string {
	var words []string
	add := func(format string, is bool, values ...any) {
		if is {
			words = append(words, fmt.Sprintf(format, values...))
		}
	}
	add("%s", i.Name != "", i.Name)
	add("the card %s", i.MAC != "", i.MAC)
	add("at %s", i.Path != "", i.Path)
	add("driven by %s", i.Driver != "", i.Driver)
	add("any card", len(words) == 0)
	add("a %s", i.Kind != "", i.Kind)
	add("on %s", i.Parent != "", i.Parent)
	add("part of %s", i.Master != "", i.Master)
	add("%s", true, i.Method)
	add("%v", len(i.Addresses) > 0, i.Addresses)
	add("via %v", i.Gateway.IsValid(), i.Gateway)
	add("via %v", i.Gateway6.IsValid(), i.Gateway6)
	add("not at boot", i.Off)
	add("not in use", i.Idle)
	return strings.Join(words, ", ") + " (" + i.Stack + ")"
}

// ChecksText is what the checkers of a source's file systems found, for people.
func ChecksText(c Checks) string {
	var b strings.Builder
	for _, h := range c.Before {
		fmt.Fprintf(&b, "%-12s%s\n", "check", Line(fmt.Sprintf("%s (%s) is %s %s", h.Device, h.Type, h.State, h.Text)))
	}
	return b.String()
}

// PlanText is a plan for people: the concerns, what the target has, what is done about
// disks that grow, then every change with its reason and diff.
func PlanText(p fixers.Plan) string {
	var b strings.Builder
	b.WriteString(concernsText(p.Concerns))
	if p.Target != nil {
		b.WriteString(becomesText(*p.Target))
	}
	for i, s := range p.Resizes {
		if i == 0 {
			fmt.Fprintf(&b, "\n# disks that grow: asked for\n")
		}
		b.WriteString(Printable(growText(s)))
	}
	fixer := ""
	for _, c := range p.Changes {
		if c.Fixer != fixer {
			fixer = c.Fixer
			fmt.Fprintf(&b, "\n# %s: %s\n", Line(c.Fixer), Line(c.Why))
		}
		if strings.HasPrefix(c.Diff, "diff ") || strings.Contains(c.Diff, "\n--- ") {
			b.WriteString(Printable(c.Diff))
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", Line(c.Path), Line(c.Diff))
	}
	fmt.Fprintf(&b, "\n%d changes", len(p.Changes))
	for _, s := range p.Skipped {
		fmt.Fprintf(&b, "\n# %s: %s", Line(s.Fixer), Line(s.Reason))
	}
	b.WriteByte('\n')
	return b.String()
}

func concernsText(list []fixer.Concern) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "%s %s: %s\n", strings.ToUpper(string(c.Level)), Line(c.Code), Line(c.Text))
		if c.Try != "" {
			fmt.Fprintf(&b, "  try: %s\n", Line(c.Try))
		}
	}
	return b.String()
}
