package vmware

import (
	"testing"

	vtags "github.com/vmware/govmomi/vapi/tags"
)

// attach gives an object a tag of a new category.
func attach(t *testing.T, on *tags, object ref, category, name string) {
	t.Helper()
	c, err := on.manager.CreateCategory(t.Context(), &vtags.Category{Name: category, Cardinality: "MULTIPLE", AssociableTypes: []string{"VirtualMachine"}})
	if err != nil {
		t.Fatal(err)
	}
	id, err := on.manager.CreateTag(t.Context(), &vtags.Tag{Name: name, CategoryID: c})
	if err == nil {
		err = on.manager.AttachTag(t.Context(), id, object)
	}
	if err != nil {
		t.Fatal(err)
	}
}
