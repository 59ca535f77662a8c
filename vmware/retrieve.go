package vmware

import (
	"context"
	"iter"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// ref is a managed object of the server.
type ref = types.ManagedObjectReference

// mostPages bounds what a server may answer to one question: ten times what the
// largest vCenter has.
//
// Source: VMware Configuration Maximums, vSphere 8: 45,000 registered VMs of a vCenter.
const mostPages = 5000

// pages asks for properties, at most size objects at a time, and hands over each page
// as it arrives. The server may send smaller ones. Who asks begins anew where the log-in
// ended, as retry has it.
//
// Source: vSphere Web Services API, PropertyCollector.RetrievePropertiesEx.
func (s *Session) pages(ctx context.Context, size int, specs ...types.PropertyFilterSpec) iter.Seq2[[]types.ObjectContent, error] {
	return func(yield func([]types.ObjectContent, error) bool) {
		this := s.client.ServiceContent.PropertyCollector
		first, err := methods.RetrievePropertiesEx(ctx, fleeting{s}, &types.RetrievePropertiesEx{This: this, SpecSet: specs, Options: types.RetrieveOptions{MaxObjects: int32(size)}})
		if err != nil {
			yield(nil, err)
			return
		}
		page := first.Returnval
		for range mostPages {
			if page == nil {
				return
			}
			if err := unread(page.Objects); err != nil {
				yield(nil, err)
				return
			}
			if !yield(page.Objects, nil) || page.Token == "" {
				return
			}
			next, err := methods.ContinueRetrievePropertiesEx(ctx, fleeting{s}, &types.ContinueRetrievePropertiesEx{This: this, Token: page.Token})
			if err != nil {
				yield(nil, err)
				return
			}
			page = &next.Returnval
		}
	}
}

// objects is all that pages has.
func (s *Session) objects(ctx context.Context, size int, specs ...types.PropertyFilterSpec) (all []types.ObjectContent, err error) {
	for page, err := range s.pages(ctx, size, specs...) {
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	return all, nil
}

// properties are what an object was asked for and has, by their paths.
func properties(o types.ObjectContent) map[string]any {
	m := make(map[string]any, len(o.PropSet))
	for _, p := range o.PropSet {
		m[p.Name] = p.Val
	}
	return m
}

// as is a property as it is expected, or the zero value of that.
func as[T any](p any) T {
	v, _ := p.(T)
	return v
}

// want is a question for properties of one type of object.
func want(kind string, paths ...string) types.PropertySpec {
	return types.PropertySpec{Type: kind, PathSet: paths}
}

// along leads from objects of a type to others, and from there on.
func along(kind, path string, then ...string) *types.TraversalSpec {
	t := &types.TraversalSpec{Type: kind, Path: path}
	for _, name := range then {
		t.SelectSet = append(t.SelectSet, &types.SelectionSpec{Name: name})
	}
	return t
}

// named gives a traversal a name, by which others lead on to it.
func named(name string, t *types.TraversalSpec) *types.TraversalSpec {
	t.Name = name
	return t
}
