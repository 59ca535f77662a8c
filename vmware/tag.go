package vmware

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/vmware/govmomi/vapi/rest"
	vapi "github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"
)

// tagging logs in at a vCenter's own interface for tags, and out again.
func (h *Hand) tagging(ctx context.Context, do func(*vapi.Manager) error) (err error) {
	if !h.Session.client.IsVC() {
		return fmt.Errorf("tags: %w: a host has none, only a vCenter", ErrCannot)
	}
	client := rest.NewClient(h.Session.client)
	client.Client.Client.Transport = h.Session.client.Client.Client.Transport // which bounds what is read
	c := h.Session.config
	if err := client.Login(ctx, url.UserPassword(c.User, string(c.Password))); err != nil {
		return fmt.Errorf("tags: %w: %w", ErrLogin, err)
	}
	defer func() { err = errors.Join(err, client.Logout(context.WithoutCancel(ctx))) }()
	return do(vapi.NewManager(client))
}

// markTag attaches a tag to a VM.
func (h *Hand) markTag(ctx context.Context, vm string, m Marks) error {
	t, err := h.ofVM(ctx, vm, KindTagged)
	if err != nil {
		return err
	}
	return h.tagging(ctx, func(tm *vapi.Manager) error {
		id, err := h.tag(ctx, tm, m)
		if err != nil {
			return fmt.Errorf("tag %s/%s: %w", m.Tag.Category, m.Tag.Name, refused(err))
		}
		return h.attachTag(ctx, tm, id, t)
	})
}

func (h *Hand) attachTag(ctx context.Context, tm *vapi.Manager, id string, t Trace) error {
	t.Part, t.Becomes = id, "attached"
	noted, err := h.opened(t.same)
	if err != nil {
		return err
	}
	has, err := attached(ctx, tm, id, t)
	switch {
	case err != nil:
		return fmt.Errorf("tags of %s: %w", t.Name, refused(err))
	case has && len(noted) > 0:
		return h.Ledger.Settle(noted[0].ID, Made, "")
	case has:
		return nil
	}
	_, err = h.make(ctx, t, func(ctx context.Context) (string, error) {
		ref, err := refOf(t.Object)
		if err == nil {
			err = tm.AttachTag(ctx, id, ref)
		}
		return "", refused(err)
	})
	return err
}

func attached(ctx context.Context, tm *vapi.Manager, id string, t Trace) (bool, error) {
	ref, err := refOf(t.Object)
	if err != nil {
		return false, err
	}
	list, err := tm.ListAttachedTags(ctx, ref)
	for _, have := range list {
		if have == id {
			return true, nil
		}
	}
	return false, err
}

// tag finds a tag by its names, or makes it and its category.
func (h *Hand) tag(ctx context.Context, tm *vapi.Manager, m Marks) (string, error) {
	category, err := h.category(ctx, tm, m)
	if err != nil {
		return "", err
	}
	list, err := tm.GetTagsForCategory(ctx, category)
	if err != nil {
		return "", err
	}
	for _, t := range list {
		if t.Name == m.Tag.Name {
			return t.ID, nil
		}
	}
	if !m.CreateTag {
		return "", fmt.Errorf("%w: make it, or allow that it is made", ErrGone)
	}
	t := Trace{Kind: KindTag, Object: "Category:" + category, Name: m.Tag.Category, Becomes: m.Tag.Name}
	return h.make(ctx, t, func(ctx context.Context) (string, error) {
		return tm.CreateTag(ctx, &vapi.Tag{Name: m.Tag.Name, CategoryID: category, Description: stamp(h.Migration)})
	})
}

func (h *Hand) category(ctx context.Context, tm *vapi.Manager, m Marks) (string, error) {
	list, err := tm.GetCategories(ctx)
	if err != nil {
		return "", err
	}
	for _, c := range list {
		if c.Name == m.Tag.Category {
			return c.ID, nil
		}
	}
	if !m.CreateTag {
		return "", fmt.Errorf("its category %w: make it, or allow that it is made", ErrGone)
	}
	t := Trace{Kind: KindCategory, Object: "Category:", Name: m.Tag.Category, Becomes: m.Tag.Category}
	return h.make(ctx, t, func(ctx context.Context) (string, error) {
		return tm.CreateCategory(ctx, &vapi.Category{Name: m.Tag.Category, Description: stamp(h.Migration),
			Cardinality: "MULTIPLE", AssociableTypes: []string{"VirtualMachine"}})
	})
}

// refused gives an error of the interface for tags its meaning.
func refused(err error) error {
	if answered(err, http.StatusUnauthorized) || answered(err, http.StatusForbidden) {
		return fmt.Errorf("%w: vSphere Tagging (InventoryService.Tagging.*): %w", ErrPrivilege, err)
	}
	return err
}

// untag takes a tag from a VM.
func (h *Hand) untag(ctx context.Context, t Trace) error {
	return h.tagging(ctx, func(tm *vapi.Manager) error {
		has, err := attached(ctx, tm, t.Part, t)
		if err != nil || !has {
			return refused(err)
		}
		ref, err := refOf(t.Object)
		if err != nil {
			return err
		}
		return refused(tm.DetachTag(ctx, t.Part, ref))
	})
}

// dropTag deletes a tag that was made for this migration, unless others use it by now.
func (h *Hand) dropTag(ctx context.Context, t Trace) error {
	return h.tagging(ctx, func(tm *vapi.Manager) error {
		category := strings.TrimPrefix(t.Object, "Category:")
		list, err := tm.GetTagsForCategory(ctx, category)
		if answered(err, http.StatusNotFound) {
			return nil
		}
		if err != nil {
			return refused(err)
		}
		for _, tag := range list {
			if tag.Name == t.Becomes && tag.Description == stamp(h.Migration) {
				return h.dropUnused(ctx, tm, tag)
			}
		}
		return nil
	})
}

func (h *Hand) dropUnused(ctx context.Context, tm *vapi.Manager, tag vapi.Tag) error {
	var users []mo.Reference
	users, err := tm.ListAttachedObjects(ctx, tag.ID)
	if err != nil || len(users) > 0 {
		return refused(err)
	}
	return refused(tm.DeleteTag(ctx, &tag))
}

// dropCategory deletes a category that was made for this migration, unless it has tags.
func (h *Hand) dropCategory(ctx context.Context, t Trace) error {
	return h.tagging(ctx, func(tm *vapi.Manager) error {
		list, err := tm.GetCategories(ctx)
		if err != nil {
			return refused(err)
		}
		for _, c := range list {
			if c.Name != t.Becomes || c.Description != stamp(h.Migration) {
				continue
			}
			if used, err := tm.ListTagsForCategory(ctx, c.ID); err != nil || len(used) > 0 {
				return refused(err)
			}
			return refused(tm.DeleteCategory(ctx, &c))
		}
		return nil
	})
}
