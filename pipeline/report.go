package pipeline

import (
	"cmp"
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
	"hyper2kvm/pipeline/durable"
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
	return name[:min(len(name), maxName)]
}

// maxName leaves room in a file's 255 bytes for what is added to the name.
const maxName = 100

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
	report := Report{Schema: "hyper2kvm.report.v1", Written: time.Now().UTC(), Versions: Versions(ctx, r.version), Migration: &m}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.Write(r.report("json"), append(text, '\n')); err != nil {
		return err
	}
	return durable.Write(r.report("md"), []byte(report.Markdown()))
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

// Versions are those of all that had a part in the result. A program that does
// not answer is named with the reason, since the report must be written.
func Versions(ctx context.Context, own string) map[string]string {
	v := map[string]string{"hyper2kvm": own}
	for _, name := range []string{"qemu-img", "qemu-storage-daemon", "qemu-system-x86_64"} {
		said, err := proc.Version(ctx, name)
		if err != nil {
			said = err.Error()
		}
		v[name] = said
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
		{"source", code(r.Options.Source)},
		{"guest", cell(systemName(r.Facts))},
		{"engine", cell(r.Engine.Name + ": " + r.Engine.Reason)},
		{"accelerator", cell(r.Accel.Name + ": " + r.Accel.Reason)},
		{"tested by", cell(r.testedBy())},
		{"began", r.Created.Format(time.RFC3339)},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
	}
	fmt.Fprintf(&b, "\n## Stages\n\n| stage | state | took | |\n|---|---|---|---|\n")
	for _, s := range r.Stages {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.Name, s.State, s.Took.Round(time.Millisecond), cell(s.Reason))
	}
	r.proof(&b)
	if len(r.Disks) > 0 {
		fmt.Fprintf(&b, "\n## Disks\n\n| file | format | virtual bytes | bytes on storage | digest of the content |\n|---|---|---|---|---|\n")
		for _, d := range r.Disks {
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %s |\n", code(d.Path), d.Format, d.Size, d.Allocated, cmp.Or(d.Content, "changed since"))
		}
	}
	r.unplanned(&b)
	r.carriage(&b)
	r.checks(&b)
	if r.Facts != nil {
		fmt.Fprintf(&b, "\n## Facts\n\n%s", fenced("", FactsText(*r.Facts, r.Machine)))
	}
	if r.Plan != nil {
		fmt.Fprintf(&b, "\n## Plan\n\n%s", fenced("diff", PlanText(*r.Plan)))
	}
	if r.Again != nil {
		fmt.Fprintf(&b, "\nPlanning again after FIX gave %d changes.\n", len(r.Again.Changes))
	}
	fmt.Fprintf(&b, "\n## Versions\n\n")
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, "- %s: %s\n", name, cell(r.Versions[name]))
	}
	return b.String()
}

// unplanned tells what is known of the source and not in the plan: it came up later.
func (r Report) unplanned(b *strings.Builder) {
	list := slices.DeleteFunc(slices.Clone(r.Concerns), func(c fixer.Concern) bool { return r.Plan != nil && slices.Contains(r.Plan.Concerns, c) })
	if len(list) > 0 {
		fmt.Fprintf(b, "\n## Source\n\n%s", fenced("", concernsText(list)))
	}
}

// carriage tells of each disk how its bytes came.
func (r Report) carriage(b *strings.Builder) {
	if len(r.Carried) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Transports\n\n| disk | transport | bytes read | of | others were not taken |\n|---|---|---|---|---|\n")
	for _, c := range r.Carried {
		fmt.Fprintf(b, "| %d | %s | %d | %d | %s |\n", c.Disk, cell(c.By), c.Read, c.Size, cell(strings.Join(c.Not, "; ")))
	}
}

// checks tells of each file system what its checker found, each time.
func (r Report) checks(b *strings.Builder) {
	if len(r.Checks.Before) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## File systems\n\n| device | type | in the source | after FIX | in the result | |\n|---|---|---|---|---|---|\n")
	for _, h := range r.Checks.Before {
		after, result := find(r.Checks.After, h.Device), find(r.Checks.Result, h.Device)
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", cell(h.Device), cell(h.Type), state(h), state(after), state(result),
			cell(cmp.Or(result.Text, after.Text, h.Text)))
	}
}

func find(checks []guest.Health, device string) guest.Health {
	i := slices.IndexFunc(checks, func(h guest.Health) bool { return h.Device == device })
	if i < 0 {
		return guest.Health{}
	}
	return checks[i]
}

func state(h guest.Health) string {
	if h.State == guest.Damaged {
		return "**damaged**"
	}
	return string(h.State)
}

func (r Report) testedBy() string {
	if r.Outcome == nil {
		return "nobody"
	}
	return cmp.Or(r.Outcome.By, "nobody: the machine did not start")
}

func (r Report) verdict() string {
	if r.Undone {
		text := "**Undone**: the disks hold the source's files again. "
		for _, grown := range r.Grown() {
			text += "Its size stays: " + grown + ". "
		}
		return text + r.proved()
	}
	return r.proved()
}

func (r Report) proved() string {
	switch {
	case r.Outcome != nil && r.Outcome.Proved:
		return "**Proved** to boot on the hardware that the libvirt XML describes."
	case r.Outcome != nil:
		return "**Not proved** to boot: " + cell(r.Outcome.Cause)
	}
	for _, s := range r.Stages {
		if s.State == Failed {
			return fmt.Sprintf("**Failed** in %s: %s", s.Name, cell(s.Reason))
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
	for _, u := range r.Outcome.Unasked {
		fmt.Fprintf(b, "\n**Not asked:** %s\n", cell(u))
	}
	if len(r.Outcome.Differences) > 0 {
		fmt.Fprintf(b, "\nWhere the tested machine was not the one of the libvirt XML:\n\n")
		for _, d := range r.Outcome.Differences {
			fmt.Fprintf(b, "- %s\n", cell(d))
		}
	}
	if !r.Outcome.Proved && r.Outcome.LastWords != "" {
		fmt.Fprintf(b, "\nThe last words of its console:\n\n%s", fenced("", r.Outcome.LastWords))
	}
}
