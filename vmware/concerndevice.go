package vmware

import (
	"fmt"
	"strings"
)

// deviceChecks look at hardware that is of VMware or of a VM's host alone.
//
// Source: Forklift, validation/policies/io/konveyor/forklift/vmware, for what users
// of that have met.
var deviceChecks = []check{
	{"vsphere/passthrough", Blocker, func(vm VM, _ Around) []string {
		return when(len(vm.Passthrough) > 0, "it has devices of its host: "+strings.Join(vm.Passthrough, ", "))
	}, "take them out of the VM; give the result devices of the target's host by hand"},
	{"vsphere/sriov", Warning, func(vm VM, _ Around) []string {
		return eachNIC(vm, func(n NIC) bool { return n.Model == "sriov" }, func(NIC) string {
			return "it is a function of its host's network card (SR-IOV); the result gets a virtio card"
		})
	}, "test the guest's network with virtio, or give the result a function of the target's card by hand"},
	{"vsphere/usb", Warning, func(vm VM, _ Around) []string {
		return when(vm.USB, "a USB device of its host or of a client is connected to it")
	}, "take it out; a licence dongle needs a way to the target of its own"},
	{"vsphere/tpm", Warning, func(vm VM, _ Around) []string {
		return when(vm.TPM, "it has a virtual TPM, whose secrets cannot be taken along")
	}, "suspend BitLocker, or have the recovery key at hand; the result gets a new TPM"},
	{"vsphere/fault-tolerance", Blocker, func(vm VM, _ Around) []string {
		return when(vm.FaultTolerance, "Fault Tolerance is on")
	}, "turn Fault Tolerance off before the migration"},
	{"vsphere/old-hardware", Warning, func(vm VM, _ Around) []string {
		v := hardwareVersion(vm.Hardware)
		return when(v > 0 && v < oldestTracked, "its hardware version is "+vm.Hardware+", of before 2009")
	}, "upgrade it in vSphere if the guest can bear it, or migrate it cold"},
	{"vsphere/hot-add", Info, func(vm VM, _ Around) []string {
		return when(vm.HotAddCPU || vm.HotAddMemory, "CPUs or memory can be added while it runs, which the result cannot")
	}, "give the result what it needs from the start"},
	{"vsphere/cpu-affinity", Info, func(vm VM, _ Around) []string {
		return when(vm.CPUAffinity, "it is tied to CPUs of its host")
	}, "pin the result's CPUs by hand, if the reason still holds"},
	{"vsphere/numa-affinity", Info, func(vm VM, _ Around) []string {
		return when(vm.NUMAAffinity, "it is tied to NUMA nodes of its host")
	}, "give the result NUMA settings by hand, if the reason still holds"},
	{"vsphere/no-network", Info, func(vm VM, _ Around) []string {
		return eachNIC(vm, func(n NIC) bool { return n.Network == "" && !vm.unsaid("nics.network") }, func(NIC) string { return "it is connected to no network" })
	}, "map it to a network, or leave it without"},
	{"vsphere/nic-model", Warning, func(vm VM, _ Around) []string {
		return eachNIC(vm, func(n NIC) bool { return n.Model == "" && !vm.unsaid("nics.model") }, func(NIC) string { return "its model is not known" })
	}, "check the guest's network after the migration"},
}

// oldestTracked is the first hardware version whose changed blocks can be tracked.
//
// Source: VMware KB 1020128.
const oldestTracked = 7

// hardwareVersion is the number in vmx-19; 0 if there is none.
func hardwareVersion(text string) (n int) {
	_, _ = fmt.Sscanf(text, "vmx-%d", &n)
	return n
}

// eachNIC is what is said of each network card that a condition holds for.
func eachNIC(vm VM, holds func(NIC) bool, say func(NIC) string) (texts []string) {
	for _, n := range vm.NICs {
		if holds(n) {
			texts = append(texts, n.Label+": "+say(n))
		}
	}
	return texts
}
