package vmware

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// One is the VM that a text means, as in Selection.VMs. ErrNotFound names VMs that are
// called much like it, ErrAmbiguous says where those are that it means.
func (s *Session) One(ctx context.Context, text string) (VM, error) {
	vm, _, err := s.Find(ctx, text)
	return vm, err
}

// Find is One with what judging the VM needs.
func (s *Session) Find(ctx context.Context, text string) (VM, Around, error) {
	if err := (Selection{VMs: []string{text}}).check(); err != nil {
		return VM{}, Around{}, err
	}
	p, all, err := s.survey(ctx, Selection{})
	if err != nil {
		return VM{}, Around{}, err
	}
	var meant []found
	for _, f := range all {
		if f.means(text) {
			meant = append(meant, f)
		}
	}
	switch len(meant) {
	case 0:
		return VM{}, Around{}, fmt.Errorf("%w: %q%s", ErrNotFound, text, near(text, all))
	case 1:
		vm, err := s.only(ctx, meant[0], p)
		return vm, among(all), err
	}
	return VM{}, Around{}, fmt.Errorf("%w: %q means %s; give one of these paths, a UUID or a MoRef", ErrAmbiguous, text, whereabouts(meant))
}

// Known is the VM of a MoRef, without a look at the whole inventory.
func (s *Session) Known(ctx context.Context, vm string) (VM, error) {
	return s.only(ctx, found{ref: ref{Type: "VirtualMachine", Value: vm}, path: vm}, nil)
}

// only reads one VM.
func (s *Session) only(ctx context.Context, f found, p *places) (VM, error) {
	vms, err := s.read(ctx, []ref{f.ref}, p, nil)
	if err == nil && len(vms) == 0 {
		err = fmt.Errorf("%w: %s was there a moment ago, and is gone", ErrNotFound, f.path)
	}
	if err != nil {
		return VM{}, err
	}
	return vms[0], nil
}

// shown is how many VMs an error names.
const shown = 10

func whereabouts(meant []found) string {
	var texts []string
	for _, f := range meant[:min(shown, len(meant))] {
		texts = append(texts, fmt.Sprintf("%s (%s)", f.path, f.ref.Value))
	}
	text := strings.Join(texts, ", ")
	if more := len(meant) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// near says which VMs are called much like a text.
func near(text string, all []found) string {
	type distant struct {
		name string
		far  int
	}
	wanted := strings.ToLower(text[strings.LastIndex(text, "/")+1:])
	var list []distant
	for _, f := range all {
		name := unescaped(f.name)
		far := distance(wanted, strings.ToLower(name))
		if far <= max(2, len(wanted)/3) || wanted != "" && strings.Contains(strings.ToLower(name), wanted) {
			list = append(list, distant{name, far})
		}
	}
	if len(list) == 0 {
		return "; it may be called otherwise, or the user may not see it"
	}
	slices.SortStableFunc(list, func(a, b distant) int { return cmp.Compare(a.far, b.far) })
	var names []string
	for _, d := range list[:min(3, len(list))] {
		names = append(names, fmt.Sprintf("%q", d.name))
	}
	return "; there is " + strings.Join(names, ", ")
}

// distance is how many characters must be put in, taken out or changed to make one text
// of another. What is far longer than a name is far from all.
func distance(a, b string) int {
	const longestName = 80 // Source: vSphere Web Services API, names of VMs
	if len(a) > longestName || len(b) > 3*longestName {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
