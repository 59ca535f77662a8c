package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers"
	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/inspect"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
)

// FolderName is the name of the folder, and of the domain, for a source: its
// file name without what shells, URLs and libvirt would trip over.
func FolderName(source string) string {
	name := strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
	name = strings.Trim(notInNames.ReplaceAllString(name, "-"), "-.")
	if name == "" {
		return "guest"
	}
	return name
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// Result is one file that a run leaves for the operator.
type Result struct {
	What string
	Path string
}

// Results are the files that are there, the disks apart.
func (r *Run) Results() []Result {
	var there []Result
	for _, f := range []Result{{"domain", r.XMLPath()}, {"report", r.report("md")}, {"", r.report("json")}, {"screenshot", r.screenshot()}, {"evidence", r.evidence()}} {
		if _, err := os.Stat(f.Path); err == nil {
			there = append(there, f)
		}
	}
	return there
}

func (r *Run) report(kind string) string {
	return filepath.Join(r.Folder, r.Name+"-report."+kind)
}

func (r *Run) screenshot() string { return filepath.Join(r.Folder, r.Name+"-boot.png") }

func (r *Run) evidence() string { return filepath.Join(r.Folder, "evidence") }

// Report is the record without what only the program needs: the bytes of the
// changes, whose diffs stay.
type Report struct {
	Schema   string            `json:"schema"`
	Written  time.Time         `json:"written"`
	Versions map[string]string `json:"versions"`
	*Migration
}

// WriteReport writes the report as JSON and as Markdown into the folder.
func (r *Run) WriteReport(ctx context.Context) error {
	m := *r.Migration
	m.Undo, m.Options.Plan = nil, nil
	m.Plan, m.Again = withoutData(m.Plan), withoutData(m.Again)
	report := Report{Schema: "hyper2kvm.report.v1", Written: time.Now().UTC(), Versions: versions(ctx, r.version), Migration: &m}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(r.report("json"), append(text, '\n')); err != nil {
		return err
	}
	return replaceFile(r.report("md"), []byte(report.Markdown()))
}

func withoutData(p *fixers.Plan) *fixers.Plan {
	if p == nil {
		return nil
	}
	short := *p
	short.Changes = append([]guest.Change{}, p.Changes...)
	for i := range short.Changes {
		short.Changes[i].Data = nil
	}
	return &short
}

// versions are those of all that had a part in the result. A program that does
// not answer is named with the reason, since the report must be written.
func versions(ctx context.Context, own string) map[string]string {
	v := map[string]string{"hyper2kvm": own}
	for _, name := range []string{"qemu-img", "qemu-storage-daemon", "qemu-system-x86_64"} {
		out, err := proc.Run(ctx, name, "--version")
		if err != nil {
			v[name] = err.Error()
			continue
		}
		v[name], _, _ = strings.Cut(string(out), "\n")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		v["kernel"] = unix.ByteSliceToString(u.Release[:])
	}
	return v
}

// Markdown is the report for people.
func (r Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", r.Name, r.verdict())
	fmt.Fprintf(&b, "| | |\n|---|---|\n")
	for _, row := range [][2]string{
		{"source", "`" + r.Options.Source + "`"},
		{"guest", systemName(r.Facts)},
		{"engine", r.Engine.Name + ": " + r.Engine.Reason},
		{"accelerator", r.Accel.Name + ": " + r.Accel.Reason},
		{"began", r.Created.Format(time.RFC3339)},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], cell(row[1]))
	}
	fmt.Fprintf(&b, "\n## Stages\n\n| stage | state | took | |\n|---|---|---|---|\n")
	for _, s := range r.Stages {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.Name, s.State, s.Took.Round(time.Millisecond), cell(s.Reason))
	}
	r.proof(&b)
	if len(r.Disks) > 0 {
		fmt.Fprintf(&b, "\n## Disks\n\n| file | format | virtual bytes | bytes on storage | SHA-256 |\n|---|---|---|---|---|\n")
		for _, d := range r.Disks {
			fmt.Fprintf(&b, "| `%s` | %s | %d | %d | `%s` |\n", d.Path, d.Format, d.Size, d.Allocated, d.SHA256)
		}
	}
	if r.Facts != nil {
		fmt.Fprintf(&b, "\n## Facts\n\n```\n%s```\n", FactsText(*r.Facts, r.Machine))
	}
	if r.Plan != nil {
		fmt.Fprintf(&b, "\n## Plan\n\n```diff\n%s```\n", PlanText(*r.Plan))
	}
	if r.Again != nil {
		fmt.Fprintf(&b, "\nPlanning again after FIX gave %d changes.\n", len(r.Again.Changes))
	}
	fmt.Fprintf(&b, "\n## Versions\n\n")
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, "- %s: %s\n", name, r.Versions[name])
	}
	return b.String()
}

func (r Report) verdict() string {
	switch {
	case r.Outcome != nil && r.Outcome.Proved:
		return "**Proved** to boot on the hardware that the libvirt XML describes."
	case r.Outcome != nil:
		return "**Not proved** to boot: " + r.Outcome.Cause
	}
	for _, s := range r.Stages {
		if s.State == Failed {
			return fmt.Sprintf("**Failed** in %s: %s", s.Name, s.Reason)
		}
	}
	return "**Not tested.**"
}

func (r Report) proof(b *strings.Builder) {
	if r.Outcome == nil {
		return
	}
	fmt.Fprintf(b, "\n## Proof\n\n| question | holds | evidence |\n|---|---|---|\n")
	for _, p := range r.Outcome.Answers {
		holds := "yes"
		if !p.OK {
			holds = "**no**"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", p.Name, holds, cell(p.Evidence))
	}
	if !r.Outcome.Proved && r.Outcome.LastWords != "" {
		fmt.Fprintf(b, "\nThe last words of its console:\n\n```\n%s\n```\n", strings.ReplaceAll(r.Outcome.LastWords, "```", "'''"))
	}
}

// cell fits a text into one cell of a Markdown table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(strings.TrimSpace(text))
}

func systemName(f *inspect.Facts) string {
	if f == nil {
		return "not inspected"
	}
	return fmt.Sprintf("%s %s (%s, %s, read from %s)", f.OS.Name, f.OS.Arch, f.Firmware.Used, f.Init.Value, f.OS.Source)
}

// FactsText is what inspection found, for people; every line ends with where
// it was read.
func FactsText(f inspect.Facts, m machine.Machine) string {
	var b strings.Builder
	line := func(what, value, source string) {
		fmt.Fprintf(&b, "%-12s%s", what, value)
		if source != "" {
			fmt.Fprintf(&b, "  [%s]", source)
		}
		b.WriteByte('\n')
	}
	line("machine", fmt.Sprintf("%s: %d CPUs, %d MiB, %d disks, %d NICs", m.Name, m.CPUs, m.Memory>>20, len(m.Disks), len(m.NICs)), m.Source)
	line("system", fmt.Sprintf("%s %s", f.OS.Name, f.OS.Arch), f.OS.Source)
	line("firmware", string(f.Firmware.Used), f.Firmware.Source)
	line("init", f.Init.Value, f.Init.Source)
	for _, v := range f.Topology.Filesystems {
		line("filesystem", fmt.Sprintf("%s %s %s %q", v.Device, v.Type, v.UUID, v.Label), "")
	}
	for _, v := range f.Mounts {
		line("mount", fmt.Sprintf("%s on %s (%s)", v.Device, v.Path, v.Spec), v.Source)
	}
	for _, v := range f.Bootloaders {
		line("bootloader", v.Kind+" "+v.Config, v.Source)
	}
	for _, v := range f.Kernels {
		line("kernel", fmt.Sprintf("%s, initrd by %s, virtio_blk in %s", v.Version, v.Generator, v.Drivers["virtio_blk"]), v.Source)
	}
	for _, v := range f.Network.Interfaces {
		line("interface", fmt.Sprintf("%s %s %v via %v (%s)", v.Name, v.Method, v.Addresses, v.Gateway, v.Stack), v.Source)
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

// PlanText is a plan for people: the concerns, then every change with its
// reason and diff.
func PlanText(p fixers.Plan) string {
	var b strings.Builder
	for _, c := range p.Concerns {
		fmt.Fprintf(&b, "%s %s: %s\n", strings.ToUpper(string(c.Level)), c.Code, c.Text)
		if c.Try != "" {
			fmt.Fprintf(&b, "  try: %s\n", c.Try)
		}
	}
	fixer := ""
	for _, c := range p.Changes {
		if c.Fixer != fixer {
			fixer = c.Fixer
			fmt.Fprintf(&b, "\n# %s: %s\n", c.Fixer, c.Why)
		}
		if strings.HasPrefix(c.Diff, "diff ") || strings.Contains(c.Diff, "\n--- ") {
			b.WriteString(c.Diff)
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", c.Path, c.Diff)
	}
	fmt.Fprintf(&b, "\n%d changes", len(p.Changes))
	for _, s := range p.Skipped {
		fmt.Fprintf(&b, "\n# %s: %s", s.Fixer, s.Reason)
	}
	b.WriteByte('\n')
	return b.String()
}

// Blocker is ErrBlocked when a concern of the plan forbids the migration.
func (r *Run) Blocker() error {
	if r.Plan == nil || !r.Plan.Blocked() {
		return nil
	}
	var texts []string
	for _, c := range r.Plan.Concerns {
		if c.Level == fixer.Blocker {
			texts = append(texts, fmt.Sprintf("%s: %s (%s)", c.Code, c.Text, c.Try))
		}
	}
	return fmt.Errorf("%w: %s", ErrBlocked, strings.Join(texts, "; "))
}
