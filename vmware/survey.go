package vmware

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// surveyPage is how many objects of the index are asked for at a time. They are small:
// about half a kilobyte each.
const surveyPage = 5000

// surveyed are the types that a look at the whole inventory wants.
var surveyed = []string{"VirtualMachine", "Folder", "Datacenter", "ComputeResource", "HostSystem", "ResourcePool", "Datastore", "Network"}

// Survey is a look at the whole inventory: where everything is, and all VMs.
type Survey struct {
	objects []types.ObjectContent
	// Around is what judging one of the VMs needs to know of the others.
	Around func() Around
}

// Survey looks at the whole inventory once. Whoever asks for VMs page by page gives it to
// each Selection, so that pages do not each look anew.
func (s *Session) Survey(ctx context.Context) (*Survey, error) {
	var found Survey
	err := s.retry(ctx, func() (err error) {
		found.objects, err = s.viewed(ctx, surveyed, func(view types.PropertyFilterSpec) []types.PropertyFilterSpec {
			view.PropSet = append(slices.Clone(placeProperties), want("VirtualMachine", indexed...))
			return []types.PropertyFilterSpec{view, s.recentTasks()}
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	found.Around = sync.OnceValue(func() Around {
		_, all := index(found.objects, Selection{})
		return among(all)
	})
	return &found, nil
}

// survey is the selection's survey, or one that is made for it: all VMs in the order of
// their paths, with which of them are meant.
func (s *Session) survey(ctx context.Context, sel Selection) (*places, []found, error) {
	known := sel.Survey
	if known == nil {
		var err error
		if known, err = s.Survey(ctx); err != nil {
			return nil, nil, err
		}
	}
	p, vms := index(known.objects, sel)
	return p, vms, nil
}

// indexed are what is asked of VMs to find those that are meant.
var indexed = []string{"name", "parent", "parentVApp", "runtime.host", "config.uuid", "config.instanceUuid"}

// viewed asks for properties of all objects of some types.
func (s *Session) viewed(ctx context.Context, kinds []string, specs func(types.PropertyFilterSpec) []types.PropertyFilterSpec) ([]types.ObjectContent, error) {
	view, err := s.view(ctx, kinds)
	if err != nil {
		return nil, err
	}
	objects, err := s.objects(ctx, surveyPage, specs(throughView(view))...)
	if !lost(err) { // it went with the log-in
		s.dropView(ctx, view)
	}
	return objects, err
}

// recentTasks is a question for the tasks that are under way or just were.
//
// Source: vSphere Web Services API, TaskManager.recentTask.
func (s *Session) recentTasks() types.PropertyFilterSpec {
	manager := s.client.ServiceContent.TaskManager
	if manager == nil {
		manager = &s.client.ServiceContent.RootFolder // it has none, and so says nothing
	}
	return types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: *manager, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{along("TaskManager", "recentTask")}}},
		PropSet:   []types.PropertySpec{want("Task", "info.entity", "info.descriptionId", "info.state")},
	}
}

// index sorts what a survey found.
func index(objects []types.ObjectContent, sel Selection) (*places, []found) {
	p, vms := newPlaces(), []types.ObjectContent{}
	for _, o := range objects {
		if o.Obj.Type == "VirtualMachine" {
			vms = append(vms, o)
			continue
		}
		p.add(o)
	}
	var all []found
	for _, o := range vms {
		v := properties(o)
		parent := as[ref](v["parent"])
		if parent.Value == "" {
			parent = as[ref](v["parentVApp"])
		}
		f := found{ref: o.Obj, name: as[string](v["name"]), host: as[ref](v["runtime.host"]), uuid: as[string](v["config.uuid"]), instance: as[string](v["config.instanceUuid"])}
		f.path = p.path(parent, f.name)
		f.meant = sel.holds(f, p, parent)
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Compare(a.place(), b.place())
	})
	return p, all
}

// view makes a view of everything of some types. It ends with the log-in.
func (s *Session) view(ctx context.Context, kinds []string) (ref, error) {
	content := s.client.ServiceContent
	res, err := methods.CreateContainerView(ctx, s.client, &types.CreateContainerView{This: *content.ViewManager, Container: content.RootFolder, Recursive: true, Type: kinds})
	if err != nil {
		return ref{}, err
	}
	return res.Returnval, nil
}

// dropView lets go of a view; the server does too when the log-in ends.
func (s *Session) dropView(ctx context.Context, view ref) {
	_, _ = methods.DestroyView(context.WithoutCancel(ctx), fleeting{s}, &types.DestroyView{This: view})
}

func throughView(view ref) types.PropertyFilterSpec {
	return types.PropertyFilterSpec{ObjectSet: []types.ObjectSpec{{Obj: view, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{along(view.Type, "view")}}}}
}
