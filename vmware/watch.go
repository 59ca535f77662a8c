package vmware

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// ChangeKind is what became of a VM.
type ChangeKind string

// What can become of a VM.
const (
	Added   ChangeKind = "added" // or was there when the watch began
	Changed ChangeKind = "changed"
	Removed ChangeKind = "removed" // of such a VM only Ref is said
)

// Change is a VM of the inventory that is not as it was.
type Change struct {
	Kind ChangeKind `json:"kind"`
	VM   VM         `json:"vm"`
}

// watched are the properties whose changes make a VM be read again. config.changeVersion
// changes with every setting.
var watched = []string{
	"name", "parent", "config.changeVersion", "config.template", "snapshot.currentSnapshot", "resourcePool",
	"runtime.powerState", "runtime.connectionState", "runtime.host", "runtime.consolidationNeeded", "guest.toolsRunningStatus",
}

// watchWait is how long the server may keep a question for changes open. Proxies and
// firewalls forget connections that are silent for longer.
const watchWait = 55 * time.Second

// watchPause is how long a watch that was interrupted waits before it asks again.
const watchPause = 5 * time.Second

// Watch tells of every VM that there is, and from then on of every one that is added,
// changed or removed, with its whole record. When the log-in ends it goes on with the
// next one, and tells what changed in between. An error says that the server cannot be
// asked; a caller that goes on after it has the watch try again.
func (s *Session) Watch(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		w := watch{Session: s, known: map[ref]map[string]string{}, yield: yield}
		for {
			err := w.run(ctx)
			if err == nil || ctx.Err() != nil || !lost(err) && !yield(Change{}, fmt.Errorf("watch: %w", err)) {
				return
			}
			if wait(ctx, w.pause) != nil {
				return
			}
			w.pause = watchPause
		}
	}
}

// watch is a watch under way.
type watch struct {
	*Session
	known map[ref]map[string]string // the watched properties of each VM, as text
	yield func(Change, error) bool
	pause time.Duration // before the next try; none before the first
}

// run watches until the caller has enough, which is no error, or the server fails.
func (w *watch) run(ctx context.Context) error {
	made, err := methods.CreatePropertyCollector(ctx, w.client, &types.CreatePropertyCollector{This: w.client.ServiceContent.PropertyCollector})
	if err != nil {
		return err
	}
	collector := made.Returnval
	defer func() {
		_, _ = methods.DestroyPropertyCollector(context.WithoutCancel(ctx), w.client, &types.DestroyPropertyCollector{This: collector})
	}()
	view, err := w.view(ctx, []string{"VirtualMachine"})
	if err != nil {
		return err
	}
	defer w.dropView(ctx, view)
	spec := throughView(view)
	spec.PropSet = []types.PropertySpec{want("VirtualMachine", watched...)}
	if _, err := methods.CreateFilter(ctx, w.client, &types.CreateFilter{This: collector, Spec: spec}); err != nil {
		return err
	}
	return w.follow(ctx, collector)
}

// follow asks for updates one after the other. The first ones, up to one that is not
// cut short, are all VMs that there are.
func (w *watch) follow(ctx context.Context, collector ref) error {
	ask := types.WaitForUpdatesEx{This: collector, Options: &types.WaitOptions{MaxWaitSeconds: types.NewInt32(int32(watchWait.Seconds()))}}
	present, all := map[ref]map[string]string{}, false
	for {
		answer, err := methods.WaitForUpdatesEx(ctx, w.client, &ask)
		if err != nil {
			return err
		}
		w.pause = 0
		set := answer.Returnval
		if set == nil {
			continue // nothing happened
		}
		ask.Version = set.Version
		if !all {
			gather(present, set)
			if all = !yes(set.Truncated); !all {
				continue
			}
			if enough, err := w.compare(ctx, present); enough || err != nil {
				return err
			}
			continue
		}
		next := maps.Clone(w.known)
		gather(next, set)
		if enough, err := w.compare(ctx, next); enough || err != nil {
			return err
		}
	}
}

// gather takes updates into what VMs there are.
func gather(vms map[ref]map[string]string, set *types.UpdateSet) {
	for _, f := range set.FilterSet {
		for _, u := range f.ObjectSet {
			if u.Kind == types.ObjectUpdateKindLeave {
				delete(vms, u.Obj)
				continue
			}
			now := maps.Clone(vms[u.Obj])
			if now == nil {
				now = map[string]string{}
			}
			for _, c := range u.ChangeSet {
				now[c.Name] = fmt.Sprint(c.Val)
			}
			vms[u.Obj] = now
		}
	}
}

// compare tells what is not as it was. It tells whether the caller has enough.
func (w *watch) compare(ctx context.Context, now map[ref]map[string]string) (enough bool, err error) {
	var gone, differ []ref
	for r := range w.known {
		if now[r] == nil {
			gone = append(gone, r)
		}
	}
	for r, state := range now {
		if !maps.Equal(w.known[r], state) {
			differ = append(differ, r)
		}
	}
	slices.SortFunc(differ, func(a, b ref) int {
		return slices.Compare([]string{now[a]["name"], a.Value}, []string{now[b]["name"], b.Value})
	})
	for _, r := range gone {
		delete(w.known, r)
		if !w.yield(Change{Removed, VM{Ref: r.Value}}, nil) {
			return true, nil
		}
	}
	for some := range slices.Chunk(differ, nextPages) {
		if enough, err := w.tell(ctx, some, now); enough || err != nil {
			return enough, err
		}
	}
	return false, nil
}

// tell reads VMs that are not as they were. What is told once is known.
func (w *watch) tell(ctx context.Context, some []ref, now map[ref]map[string]string) (enough bool, err error) {
	vms, err := w.read(ctx, some, nil, nil)
	if err != nil {
		return false, err
	}
	for _, vm := range vms {
		r, kind := ref{Type: "VirtualMachine", Value: vm.Ref}, Changed
		if w.known[r] == nil {
			kind = Added
		}
		w.known[r] = now[r]
		if !w.yield(Change{kind, vm}, nil) {
			return true, nil
		}
	}
	return false, nil
}
