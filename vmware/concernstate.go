package vmware

import (
	"fmt"
	"strings"
)

// stateChecks look at what a VM is in the midst of.
//
// Source: vSphere Web Services API, VirtualMachineRuntimeInfo, HostRuntimeInfo.
var stateChecks = []check{
	{"vsphere/inaccessible", Blocker, func(vm VM, _ Around) []string {
		return when(vm.State != "", "the server says that the VM is "+vm.State)
	}, "mend its storage or its host in vSphere, or register the VM again"},
	{"vsphere/template", Blocker, func(vm VM, _ Around) []string {
		return when(vm.Template, "it is a template")
	}, "convert it to a VM, or clone a VM from it and migrate that"},
	{"vsphere/suspended", Blocker, func(vm VM, _ Around) []string {
		return when(vm.Power == Suspended, "it is suspended: part of its state is in a file of memory, which cannot be taken along")
	}, "resume it and shut it down"},
	{"vsphere/question", Blocker, func(vm VM, _ Around) []string {
		return when(vm.Question != "", fmt.Sprintf("the server waits for an answer: %q", vm.Question))
	}, "answer it in vSphere"},
	{"vsphere/busy", Warning, func(vm VM, _ Around) []string {
		return when(len(vm.Tasks) > 0, "tasks are under way on it: "+strings.Join(vm.Tasks, ", "))
	}, "wait until they have ended: its files may move meanwhile"},
	{"vsphere/host-unreachable", Blocker, func(vm VM, _ Around) []string {
		return when(vm.HostState == "disconnected" || vm.HostState == "notResponding", fmt.Sprintf("its host %s is %s", vm.Host, vm.HostState))
	}, "connect the host again, or move the VM to another one"},
	{"vsphere/host-maintenance", Warning, func(vm VM, _ Around) []string {
		return when(vm.HostState == "maintenance", fmt.Sprintf("its host %s is in maintenance mode", vm.Host))
	}, "end the maintenance, or move the VM to another host: it cannot be powered on there"},
	{"vsphere/duplicate-name", Warning, func(vm VM, a Around) []string {
		return when(a.names[vm.Name] > 1, fmt.Sprintf("%d VMs are called %q", a.names[vm.Name], vm.Name))
	}, "name it by its path or its MoRef, and give the result a name of its own"},
	{"vsphere/duplicate-uuid", Warning, func(vm VM, a Around) []string {
		return when(a.uuids[vm.BIOSUUID] > 1, fmt.Sprintf("%d VMs have the BIOS UUID %s", a.uuids[vm.BIOSUUID], vm.BIOSUUID))
	}, "give the results UUIDs of their own: libvirt takes each only once on a host"},
	{"vsphere/name", Warning, func(vm VM, _ Around) []string {
		says := badName(vm.Name)
		return when(says != "", fmt.Sprintf("its name %q %s", vm.Name, says))
	}, "give the result another name"},
	{"vsphere/managed", Warning, func(vm VM, _ Around) []string {
		return when(vm.ManagedBy != "", "it belongs to the extension "+vm.ManagedBy+", which makes and removes its VMs by itself")
	}, "migrate it only if what it belongs to may lose it"},
	{"vsphere/unknown", Info, func(vm VM, _ Around) []string {
		return when(len(vm.Unknown) > 0, "its record does not say: "+strings.Join(vm.Unknown, ", "))
	}, "read the VM from its server, with a user that has the role for it, before it is migrated"},
}

// longestName leaves room for what is put behind a name in a file's.
const longestName = 200

// badName says why a name cannot be one of a domain and its files; empty if it can.
//
// Source: libvirt, virDomainDefNameParse: no slash; domain_conf.c; NAME_MAX of Linux.
func badName(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "is empty"
	case strings.ContainsAny(name, "/\n\r\x00"):
		return "has a slash or a line break in it, which no domain of libvirt may have"
	case name[0] == '.' || name[0] == '-':
		return "begins with a dot or a dash, which programs take for a hidden file or an option"
	case len(name) > longestName:
		return fmt.Sprintf("has %d bytes, more than the %d that a file's name has room for", len(name), longestName)
	}
	return ""
}
