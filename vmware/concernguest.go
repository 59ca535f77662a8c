package vmware

import (
	"fmt"
	"slices"
	"strings"
)

// fixedGuests are those that are made ready for KVM, by how their IDs begin, in lower case.
var fixedGuests = []string{
	"rhel", "centos", "oraclelinux", "rockylinux", "almalinux", "fedora", "sles", "opensuse", "suse", "debian", "ubuntu",
	"amazonlinux", "vmwarephoton", "other", // whose disks are looked at
}

// unfixedGuests are what fixedGuests would let pass.
var unfixedGuests = []string{"otherguest", "other24x"}

// tight is how much of a file system must be free for the drivers and settings that a
// guest gets.
//
// Source: virt-v2v(1), "FREE SPACE IN THE GUEST": 100 MB on the root, 50 MB on /boot.
const tight = 100 << 20

// guestChecks look at what runs in a VM.
var guestChecks = []check{
	{"vsphere/unsupported-guest", Warning, func(vm VM, _ Around) []string {
		return when(vm.GuestID != "" && !fixed(vm.GuestID), fmt.Sprintf("the guest is set to be %s (%s), which nothing here makes ready for KVM", vm.GuestID, vm.GuestName))
	}, "hyper2kvm plan tells before the VM is shut down whether its guest is refused"},
	{"vsphere/no-tools", Warning, func(vm VM, _ Around) []string {
		return when(vm.ToolsKind == "guestToolsNotInstalled", "VMware Tools are not installed")
	}, "the guest cannot be shut down or have its files quiesced by vSphere: install the tools, or shut it down from inside"},
	{"vsphere/tools-not-running", Warning, func(vm VM, _ Around) []string {
		return when(vm.Power == On && vm.Tools == "guestToolsNotRunning" && vm.ToolsKind != "guestToolsNotInstalled", "VMware Tools are installed and do not run")
	}, "start them, or shut the guest down from inside before the migration"},
	{"vsphere/guest-space", Warning, func(vm VM, _ Around) (texts []string) {
		for _, p := range vm.Partitions {
			if p.Capacity > 0 && p.Free < tight && system(p.Path) {
				texts = append(texts, fmt.Sprintf("%s has %s free, and changes to the guest may need %s", p.Path, bytesText(p.Free), bytesText(tight)))
			}
		}
		return texts
	}, "make room there"},
	{"vsphere/no-address", Info, func(vm VM, _ Around) []string {
		return when(vm.Power == On && vm.Tools == "guestToolsRunning" && len(vm.Addresses) == 0 && len(vm.NICs) > 0 && !vm.unsaid("addresses"), "the guest has no address")
	}, "look at its network now: it cannot be compared after the migration"},
	{"vsphere/hostname", Info, func(vm VM, _ Around) []string {
		return when(vm.Tools == "guestToolsRunning" && !vm.unsaid("host_name") && (vm.HostName == "" || strings.HasPrefix(vm.HostName, "localhost")), fmt.Sprintf("the guest calls itself %q", vm.HostName))
	}, "give it a name of its own if others find it by that"},
}

// fixed tells whether a guest is one that is made ready for KVM.
func fixed(id string) bool {
	begins := func(with string) bool { return strings.HasPrefix(strings.ToLower(id), with) }
	return slices.ContainsFunc(fixedGuests, begins) && !slices.ContainsFunc(unfixedGuests, begins)
}

// system tells whether a guest's system is in a file system.
func system(path string) bool {
	return path == "/" || path == "/boot" || strings.EqualFold(path, `C:\`)
}
