package vmware

import "slices"

// Around is what must be known beside a VM to judge it. The zero value knows nothing.
type Around struct {
	names, uuids map[string]int // of VMs, and how many have them
	// Live: the VM's disks are to be read while it runs, if it does.
	Live bool
}

// Add counts a VM of the same inventory, so that names and UUIDs that several have are
// noticed.
func (a *Around) Add(vm VM) {
	if a.names == nil {
		a.names, a.uuids = map[string]int{}, map[string]int{}
	}
	a.names[vm.Name]++
	if vm.BIOSUUID != "" {
		a.uuids[vm.BIOSUUID]++
	}
}

// check is one thing that may stand against migrating a VM.
type check struct {
	code  string
	level Level
	// see says what it saw, once for each place where it saw it.
	see func(vm VM, a Around) []string
	try string
}

// checks are all there are, the gravest first.
var checks = slices.Concat(stateChecks, diskChecks, deviceChecks, snapshotChecks, guestChecks, clusterChecks)

// Concerns are what stands against migrating a VM, from its record alone. What the
// record does not say raises none but vsphere/unknown.
func Concerns(vm VM, a Around) []Concern {
	var list []Concern
	for _, c := range checks {
		for _, text := range c.see(vm, a) {
			list = append(list, Concern{Level: c.level, Code: c.code, Text: text, Try: c.try})
		}
	}
	slices.SortStableFunc(list, func(x, y Concern) int { return weight[x.Level] - weight[y.Level] })
	return list
}

var weight = map[Level]int{Blocker: 0, Warning: 1, Info: 2}

// Codes are those of all concerns, each once.
func Codes() (codes []string) {
	for _, c := range checks {
		if !slices.Contains(codes, c.code) {
			codes = append(codes, c.code)
		}
	}
	return codes
}

// when is a text if something holds.
func when(holds bool, text string) []string {
	if !holds {
		return nil
	}
	return []string{text}
}

// eachDisk is what is said of each disk that a condition holds for.
func eachDisk(vm VM, holds func(Disk) bool, say func(Disk) string) (texts []string) {
	for _, d := range vm.Disks {
		if holds(d) {
			texts = append(texts, d.Label+": "+say(d))
		}
	}
	return texts
}

// unsaid tells whether the record does not say a field.
func (vm VM) unsaid(field string) bool {
	return slices.Contains(vm.Unknown, field) || slices.Contains(vm.Unknown, "config")
}
