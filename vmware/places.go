package vmware

import (
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// location is an object of the inventory that is no VM: a folder, a host, a datastore.
type location struct {
	name   string // as the server escapes it
	parent ref
	state  string // of a host: maintenance, disconnected, notResponding; empty: it works
	lost   bool   // a datastore that no host reaches
	drs    string
	dpm    bool
}

// places are what surrounds VMs, by reference.
type places struct {
	of    map[ref]location
	keys  map[string]ref   // distributed port groups and opaque networks, by what network cards call them
	tasks map[ref][]string // under way, by what they work on
	rules map[ref][]string // of clusters, by the VMs that they bind
}

func newPlaces() *places {
	return &places{of: map[ref]location{}, keys: map[string]ref{}, tasks: map[ref][]string{}, rules: map[ref][]string{}}
}

// placeProperties are what is asked of places. Types that inherit are named with what
// they inherit, whichever of the two a server goes by.
var placeProperties = []types.PropertySpec{
	want("Folder", "name", "parent"),
	want("Datacenter", "name", "parent"),
	want("ComputeResource", "name", "parent"),
	want("ClusterComputeResource", "name", "parent", "configurationEx.drsConfig", "configurationEx.dpmConfigInfo", "configurationEx.rule"),
	want("HostSystem", "name", "parent", "runtime.connectionState", "runtime.inMaintenanceMode"),
	want("ResourcePool", "name", "parent"),
	want("VirtualApp", "name", "parent", "parentFolder"),
	want("Datastore", "name", "summary.accessible"),
	want("Network", "name"),
	want("OpaqueNetwork", "name", "summary"),
	want("DistributedVirtualPortgroup", "name", "key"),
	want("Task", "info.entity", "info.descriptionId", "info.state"),
}

// add takes in an object that is no VM.
func (p *places) add(o types.ObjectContent) {
	v := properties(o)
	if o.Obj.Type == "Task" {
		p.addTask(v)
		return
	}
	at := location{name: as[string](v["name"]), parent: as[ref](v["parent"]), state: hostState(v)}
	if folder, ok := v["parentFolder"].(ref); ok {
		at.parent = folder
	}
	if reached, ok := v["summary.accessible"].(bool); ok {
		at.lost = !reached
	}
	if n, ok := v["summary"].(types.OpaqueNetworkSummary); ok {
		p.keys[n.OpaqueNetworkId] = o.Obj
	}
	if key := as[string](v["key"]); key != "" {
		p.keys[key] = o.Obj
	}
	at.drs, at.dpm = clusterHabits(v)
	p.addRules(v)
	p.of[o.Obj] = at
}

func hostState(v map[string]any) string {
	if s := as[types.HostSystemConnectionState](v["runtime.connectionState"]); s != "" && s != types.HostSystemConnectionStateConnected {
		return string(s)
	}
	if as[bool](v["runtime.inMaintenanceMode"]) {
		return "maintenance"
	}
	return ""
}

func clusterHabits(v map[string]any) (drs string, dpm bool) {
	if c, ok := v["configurationEx.drsConfig"].(types.ClusterDrsConfigInfo); ok && c.Enabled != nil && *c.Enabled {
		drs = string(c.DefaultVmBehavior)
	}
	if c, ok := v["configurationEx.dpmConfigInfo"].(types.ClusterDpmConfigInfo); ok {
		dpm = c.Enabled != nil && *c.Enabled
	}
	return drs, dpm
}

// addTask notes a task that has not ended.
func (p *places) addTask(v map[string]any) {
	state, on := as[types.TaskInfoState](v["info.state"]), as[ref](v["info.entity"])
	if on.Value != "" && (state == types.TaskInfoStateRunning || state == types.TaskInfoStateQueued) {
		p.tasks[on] = append(p.tasks[on], as[string](v["info.descriptionId"]))
	}
}

// addRules notes the rules of a cluster that name VMs.
func (p *places) addRules(v map[string]any) {
	rules := as[types.ArrayOfClusterRuleInfo](v["configurationEx.rule"])
	for _, r := range rules.ClusterRuleInfo {
		info := r.GetClusterRuleInfo()
		if info.Enabled != nil && !*info.Enabled {
			continue
		}
		for _, vm := range ruled(r) {
			p.rules[vm] = append(p.rules[vm], info.Name)
		}
	}
}

func ruled(r types.BaseClusterRuleInfo) []ref {
	switch r := r.(type) {
	case *types.ClusterAffinityRuleSpec:
		return r.Vm
	case *types.ClusterAntiAffinityRuleSpec:
		return r.Vm
	}
	return nil
}

// name is a place's, as people read it.
func (p *places) name(r *ref) string {
	if r == nil {
		return ""
	}
	return unescaped(p.of[*r].name)
}

// deepest bounds how far a path goes up: a server's folders may be wrong.
const deepest = 100

// above are a place and those that it is in, the outermost first, without the root.
func (p *places) above(r ref) (chain []ref) {
	for range deepest {
		at, ok := p.of[r]
		if !ok || at.parent.Value == "" {
			break
		}
		chain = append(chain, r)
		r = at.parent
	}
	slices.Reverse(chain)
	return chain
}

// path is where something of a name is in the inventory.
func (p *places) path(in ref, name string) string {
	var b strings.Builder
	for _, r := range p.above(in) {
		b.WriteString("/" + p.of[r].name)
	}
	return b.String() + "/" + name
}

// datacenter is the path of the one that a place is in.
func (p *places) datacenter(in ref) string {
	for _, r := range p.above(in) {
		if r.Type == "Datacenter" {
			return p.path(p.of[r].parent, p.of[r].name)
		}
	}
	return ""
}

// cluster is the one of a host, if it is in any.
func (p *places) cluster(host ref) (location, bool) {
	up := p.of[host].parent
	return p.of[up], up.Type == "ClusterComputeResource"
}

// escapes are how a server writes what separates names.
//
// Source: vSphere Web Services API, ManagedEntity.name.
var escapes = strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%")

// unescaped is a name as people read it.
func unescaped(name string) string { return escapes.Replace(name) }
