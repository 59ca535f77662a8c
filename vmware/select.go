package vmware

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Selection says which VMs are meant. The zero value means all. Several kinds of
// conditions must all hold; of several texts in one condition, one must.
type Selection struct {
	// VMs are texts that each mean VMs by their name, inventory path, instance or BIOS
	// UUID or MoRef. In names and paths * stands for any text without a slash, ? for one
	// character and [ab] for one of several; \ takes that meaning away.
	VMs []string
	// Folders and Clusters are names, paths or patterns of them. A folder is meant with
	// all that is in it.
	Folders, Clusters []string
	// Tags are names, or category/name.
	Tags []string
	// Refs are MoRefs. They alone need no look at the whole inventory.
	Refs []string
	// ReadTags asks for the tags of every VM, which is more work for a vCenter.
	ReadTags bool
	// Survey is what is known of the inventory; one is made if it is nil.
	Survey *Survey
	// After leaves out VMs up to a place in the order of a sequence, which VM.Place gave;
	// it has no meaning with Refs alone.
	After string
}

// Place is where a VM is in the order of their sequence.
func (vm VM) Place() string { return vm.Path + "\x00" + vm.Ref }

// ErrSelection is a selection that cannot be one.
var ErrSelection = errors.New("no VMs can be meant so")

// check tells of a pattern that is none.
func (s Selection) check() error {
	for _, text := range slices.Concat(s.VMs, s.Folders, s.Clusters) {
		if text == "" {
			return fmt.Errorf("%w: an empty text means none; leave it out to mean all", ErrSelection)
		}
		if _, err := path.Match(text, ""); err != nil {
			return fmt.Errorf("%w: %q is not a pattern: a [ is not closed, or it ends with \\; write \\[ or \\\\ for the character itself", ErrSelection, text)
		}
	}
	return nil
}

// found is what the inventory's index says of a VM.
type found struct {
	ref            ref
	name, path     string // as the server escapes them
	uuid, instance string
	host           ref
	meant          bool // by the selection
}

// place is VM.Place.
func (f found) place() string { return VM{Path: f.path, Ref: f.ref.Value}.Place() }

// means tells whether a VM is one that a text means.
func (f found) means(text string) bool {
	return text == f.ref.Value || called(text, f.name, f.path) ||
		f.uuid != "" && strings.EqualFold(text, f.uuid) || f.instance != "" && strings.EqualFold(text, f.instance)
}

// called tells whether a text means something of a name and a path. Both may be
// written as the server escapes them, or as people read them.
func called(text, name, at string) bool {
	return slices.ContainsFunc([]string{name, unescaped(name), at, unescaped(at)}, func(s string) bool {
		if s == text {
			return true
		}
		ok, err := path.Match(text, s)
		return ok && err == nil
	})
}

// holds tells whether the conditions on where a VM is hold.
func (s Selection) holds(f found, p *places, parent ref) bool {
	return (len(s.VMs) == 0 || slices.ContainsFunc(s.VMs, f.means)) &&
		(len(s.Folders) == 0 || slices.ContainsFunc(p.above(parent), func(r ref) bool { return s.inFolder(p, r) })) &&
		(len(s.Clusters) == 0 || s.inCluster(p, f.host))
}

func (s Selection) inFolder(p *places, r ref) bool {
	return slices.ContainsFunc(s.Folders, func(text string) bool {
		return called(strings.TrimSuffix(text, "/"), p.of[r].name, p.path(p.of[r].parent, p.of[r].name))
	})
}

func (s Selection) inCluster(p *places, host ref) bool {
	c, ok := p.cluster(host)
	return ok && slices.ContainsFunc(s.Clusters, func(text string) bool { return called(text, c.name, p.path(c.parent, c.name)) })
}
