package vmware

import (
	"fmt"
	"strings"
)

// clusterChecks look at what may move a VM while it is read.
var clusterChecks = []check{
	{"vsphere/drs", Info, func(vm VM, _ Around) []string {
		return when(vm.ClusterDRS == "fullyAutomated", fmt.Sprintf("DRS of the cluster %s moves VMs by itself, also while they are read", vm.Cluster))
	}, "reads go on after a move; set the VM's automation to manual for the migration to have none"},
	{"vsphere/dpm", Info, func(vm VM, _ Around) []string {
		return when(vm.ClusterDPM, fmt.Sprintf("the cluster %s switches hosts off to save power", vm.Cluster))
	}, "turn that off for the migration if hosts are to be reached by themselves"},
	{"vsphere/affinity", Info, func(vm VM, _ Around) []string {
		return when(len(vm.Rules) > 0, "rules of its cluster say where it runs: "+strings.Join(vm.Rules, ", "))
	}, "set up the like on the target, if the reason still holds"},
}
