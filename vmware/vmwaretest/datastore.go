package vmwaretest

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// AddDatastore adds a datastore that every host mounts, one in each datacenter.
func (s *Server) AddDatastore(t testing.TB, name string) {
	t.Helper()
	ctx := context.Background()
	folders := map[types.ManagedObjectReference]string{}
	for _, host := range s.entities("HostSystem") {
		dc := s.datacenter(host).Self
		if folders[dc] == "" {
			folders[dc] = t.TempDir()
		}
		system, err := object.NewHostSystem(s.Client, host.Reference()).ConfigManager().DatastoreSystem(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := system.CreateLocalDatastore(ctx, name, folders[dc]); err != nil {
			t.Fatalf("add the datastore %q: %v", name, err)
		}
		s.datastore(s.inventoryPath(s.datacenter(host)), name).Summary.Type = "VMFS"
	}
}

// entities are the inventory's of a type, in the order in which they were made.
func (s *Server) entities(kind string) []mo.Entity {
	all := s.Model.Map().All(kind)
	slices.SortFunc(all, func(a, b mo.Entity) int {
		x, y := a.Reference().Value, b.Reference().Value
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)) // host-9, host-10
	})
	return all
}

// datacenter is the one that an object is in.
func (s *Server) datacenter(e mo.Entity) *simulator.Datacenter {
	for {
		if dc, ok := e.(*simulator.Datacenter); ok {
			return dc
		}
		e = s.Model.Map().Get(*e.Entity().Parent).(mo.Entity)
	}
}

// inventoryPath is where an object is, with the names as they are stored: DC0/vm/web01.
func (s *Server) inventoryPath(e mo.Entity) string {
	var names []string
	for e.Entity().Parent != nil {
		names = append([]string{e.Entity().Name}, names...)
		e = s.Model.Map().Get(*e.Entity().Parent).(mo.Entity)
	}
	return path.Join(names...)
}

// datastore is the one of a name in a datacenter, by its inventory path. Without a
// path it is the first of that name.
func (s *Server) datastore(dcPath, name string) *simulator.Datastore {
	for _, e := range s.entities("Datastore") {
		ds := e.(*simulator.Datastore)
		in := dcPath == "" || s.inventoryPath(s.datacenter(ds)) == strings.Trim(dcPath, "/")
		if in && ds.Name == name {
			return ds
		}
	}
	return nil
}

// file is the file of this machine that a datastore path stands for.
func (s *Server) file(dcPath, datastorePath string) (string, error) {
	var p object.DatastorePath
	if !p.FromString(datastorePath) {
		return "", fmt.Errorf("%q is not a datastore path", datastorePath)
	}
	ds := s.datastore(dcPath, p.Datastore)
	if ds == nil {
		return "", fmt.Errorf("there is no datastore %q", p.Datastore)
	}
	return filepath.Join(ds.Summary.Url, filepath.Clean("/"+p.Path)), nil
}
