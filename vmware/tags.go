package vmware

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/vmware/govmomi/vapi/rest"
	vtags "github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"
)

// tags are vSphere's, read only where they are asked for. Nil: they are not.
type tags struct {
	manager *vtags.Manager
	client  *rest.Client
	names   map[string]Tag // by ID
	meant   map[ref]bool   // VMs with one of those that a selection names
	all     bool           // those of every VM are to be read
	page    map[ref][]Tag  // of the VMs that were read last
}

// tagged reads what a selection needs of the tags. VMs of an ESXi host have none.
//
// Source: vSphere Automation API, cis/tagging.
func (s *Session) tagged(ctx context.Context, sel Selection) (*tags, error) {
	if len(sel.Tags) == 0 && !(sel.ReadTags && s.client.IsVC()) {
		return nil, nil
	}
	if !s.client.IsVC() {
		return nil, errors.New("tags: an ESXi host has none; ask its vCenter, or leave tags out")
	}
	client := rest.NewClient(s.client)
	if err := client.Login(ctx, url.UserPassword(s.config.User, string(s.config.Password))); err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	t := &tags{manager: vtags.NewManager(client), client: client, names: map[string]Tag{}, meant: map[ref]bool{}, all: sel.ReadTags}
	wanted, err := t.index(ctx, sel.Tags)
	if err == nil {
		err = t.attached(ctx, wanted)
	}
	if err != nil {
		t.close(ctx)
		return nil, fmt.Errorf("tags: %w", err)
	}
	return t, nil
}

// close ends the session that tags are read in; the server does too when it is idle.
func (t *tags) close(ctx context.Context) {
	if t != nil {
		_ = t.client.Logout(context.WithoutCancel(ctx))
	}
}

// index reads the names of all tags, and finds those that are wanted.
func (t *tags) index(ctx context.Context, wanted []string) (ids []string, err error) {
	categories, err := t.manager.GetCategories(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, c := range categories {
		names[c.ID] = c.Name
	}
	list, err := t.manager.GetTags(ctx)
	if err != nil {
		return nil, err
	}
	for _, tag := range list {
		t.names[tag.ID] = Tag{Category: names[tag.CategoryID], Name: tag.Name}
	}
	for _, text := range wanted {
		before := len(ids)
		for id, tag := range t.names {
			if text == tag.Name || text == tag.Category+"/"+tag.Name {
				ids = append(ids, id)
			}
		}
		if len(ids) == before {
			return nil, fmt.Errorf("there is no tag %q; write its name, or category/name", text)
		}
	}
	return ids, nil
}

// attached finds the VMs that have tags.
func (t *tags) attached(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	list, err := t.manager.ListAttachedObjectsOnTags(ctx, ids)
	if err != nil {
		return err
	}
	for _, on := range list {
		for _, object := range on.ObjectIDs {
			t.meant[object.Reference()] = true
		}
	}
	return nil
}

// read reads the tags of some VMs.
func (t *tags) read(ctx context.Context, refs []ref) error {
	if t == nil || !t.all {
		return nil
	}
	var objects []mo.Reference
	for _, r := range refs {
		objects = append(objects, r)
	}
	list, err := t.manager.ListAttachedTagsOnObjects(ctx, objects)
	if err != nil {
		return fmt.Errorf("tags: %w", err)
	}
	t.page = map[ref][]Tag{}
	for _, on := range list {
		for _, id := range on.TagIDs {
			r := on.ObjectID.Reference()
			t.page[r] = append(t.page[r], t.names[id])
		}
	}
	return nil
}

// of are the tags of a VM that was read last.
func (t *tags) of(r ref) []Tag {
	if t == nil {
		return nil
	}
	list := t.page[r]
	slices.SortFunc(list, func(a, b Tag) int {
		return slices.Compare([]string{a.Category, a.Name}, []string{b.Category, b.Name})
	})
	return list
}
