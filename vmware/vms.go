package vmware

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/vmware/govmomi/vim25/types"
)

// How many VMs are asked for at a time: a few for the first row, then as many as keep
// a page below some ten megabytes.
const (
	firstPage = 25
	nextPages = 250
)

// VMs are the VMs that a selection means, in the order of their paths. Where they are
// is asked once, what they are page by page, while the caller works on the page
// before; so little is in memory at any time. VMs that vanish meanwhile are left out.
// An error ends the sequence.
func (s *Session) VMs(ctx context.Context, sel Selection) iter.Seq2[VM, error] {
	return s.each(ctx, sel, nil)
}

// each are the VMs that a selection means. Before the first, all that the inventory has
// are told, if somebody wants to know.
func (s *Session) each(ctx context.Context, sel Selection, tell func(all []found)) iter.Seq2[VM, error] {
	return func(yield func(VM, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if err := sel.check(); err != nil {
			yield(VM{}, err)
			return
		}
		tags, err := s.tagged(ctx, sel)
		if err != nil {
			yield(VM{}, err)
			return
		}
		defer tags.close(ctx)
		refs, p, err := s.meant(ctx, sel, tags, tell)
		if err != nil {
			yield(VM{}, err)
			return
		}
		for page := range s.ahead(ctx, refs, p, tags) {
			for _, vm := range page.vms {
				if !yield(vm, nil) {
					return
				}
			}
			if page.err != nil {
				yield(VM{}, page.err)
				return
			}
		}
	}
}

// meant are the VMs of a selection, and what surrounds them: nil if that is still to be
// asked with them.
func (s *Session) meant(ctx context.Context, sel Selection, tags *tags, tell func([]found)) ([]ref, *places, error) {
	if tell == nil && len(sel.Refs) > 0 && len(sel.VMs)+len(sel.Folders)+len(sel.Clusters)+len(sel.Tags) == 0 {
		var refs []ref
		for _, value := range sel.Refs {
			refs = append(refs, ref{Type: "VirtualMachine", Value: value})
		}
		return refs, nil, nil
	}
	p, vms, err := s.survey(ctx, sel)
	if err != nil {
		return nil, nil, err
	}
	if tell != nil {
		tell(vms)
	}
	var refs []ref
	for _, f := range vms {
		if !f.meant || f.place() <= sel.After {
			continue
		}
		if (len(sel.Refs) == 0 || slices.Contains(sel.Refs, f.ref.Value)) && (len(sel.Tags) == 0 || tags.meant[f.ref]) {
			refs = append(refs, f.ref)
		}
	}
	return refs, p, nil
}

// page is some VMs, or what went wrong in reading them.
type page struct {
	vms []VM
	err error
}

// ahead reads VMs page by page, one page ahead of who takes them.
func (s *Session) ahead(ctx context.Context, refs []ref, p *places, tags *tags) <-chan page {
	ready := make(chan page)
	go func() {
		defer close(ready)
		for size := firstPage; len(refs) > 0; size = nextPages {
			n := min(size, len(refs))
			vms, err := s.read(ctx, refs[:n], p, tags)
			select {
			case ready <- page{vms, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
			refs = refs[n:]
		}
	}()
	return ready
}

// read reads some VMs, in the order of their references. What surrounds them is asked
// with them where it is not known.
func (s *Session) read(ctx context.Context, refs []ref, p *places, tags *tags) ([]VM, error) {
	var objects []types.ObjectContent
	err := s.retry(ctx, func() (err error) {
		objects, err = s.present(ctx, refs, p == nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	if err := tags.read(ctx, refs); err != nil {
		return nil, err
	}
	vms := map[ref]types.ObjectContent{}
	around := cmp.Or(p, newPlaces())
	for _, o := range objects {
		if o.Obj.Type == "VirtualMachine" {
			vms[o.Obj] = o
		} else if p == nil {
			around.add(o)
		}
	}
	return records(refs, vms, around, tags)
}

// records are those of VMs that are still there.
func records(refs []ref, vms map[ref]types.ObjectContent, around *places, tags *tags) (rows []VM, err error) {
	for _, r := range refs {
		o, ok := vms[r]
		if !ok {
			continue
		}
		vm, err := record(o, around)
		if err != nil {
			return nil, fmt.Errorf("inventory: %s: %w", r.Value, err)
		}
		vm.Tags = tags.of(r)
		rows = append(rows, vm)
	}
	return rows, nil
}

// present asks for those of some VMs that are still there.
func (s *Session) present(ctx context.Context, refs []ref, surroundings bool) ([]types.ObjectContent, error) {
	for {
		objects, err := s.objects(ctx, nextPages, details(refs, surroundings))
		gone, missing := goneObject(err)
		at := slices.Index(refs, gone)
		if !missing || at < 0 {
			return objects, err
		}
		if refs = slices.Delete(slices.Clone(refs), at, at+1); len(refs) == 0 {
			return nil, nil
		}
	}
}

// details is the question for VMs' records, and for what surrounds them.
func details(refs []ref, surroundings bool) types.PropertyFilterSpec {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{want("VirtualMachine", recorded...)}}
	var around []types.BaseSelectionSpec
	if surroundings {
		spec.PropSet, around = append(spec.PropSet, placeProperties...), outwards
	}
	for _, r := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: r, Skip: types.NewBool(false), SelectSet: around})
	}
	return spec
}

// outwards leads from a VM to all that its record names.
var outwards = []types.BaseSelectionSpec{
	named("up", along("ManagedEntity", "parent", "up")),
	named("beside", along("VirtualApp", "parentFolder", "up")),
	along("VirtualMachine", "parent", "up"),
	along("VirtualMachine", "parentVApp", "up", "beside"),
	along("VirtualMachine", "resourcePool", "up"),
	along("VirtualMachine", "runtime.host", "up"),
	along("VirtualMachine", "datastore"),
	along("VirtualMachine", "network"),
	along("VirtualMachine", "recentTask"),
}
