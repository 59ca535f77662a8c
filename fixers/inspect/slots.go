package inspect

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/machine"
)

var (
	slotName    = regexp.MustCompile(`^ens(\d{1,5})$`)
	pciName     = regexp.MustCompile(`^enp(\d{1,3})s(\d{1,2})$`)
	onboardName = regexp.MustCompile(`^eno(\d{8,10})$`)
	pciAddress  = regexp.MustCompile(`([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])`)
	kernelName  = regexp.MustCompile(`^eth(\d{1,4})$`)
)

// slotOfName is VMware's pciSlotNumber in a predictable name: ens192 has it
// plainly, and ens193 for the second function of the same port, whose number is
// 1216; enp11s0 is the PCI address that follows from it; eno16780032, of the
// first systemd releases on VMware, has that address in its low 16 bits.
//
// Source: systemd.net-naming-scheme(7); VMware's firmware numbers its on-board
// devices 0x01000000 + bus*256 + device*8. Four cards have the numbers 192, 224,
// 256 and 1184, and the names ens192, ens224, ens256 and ens161
// (terraform-provider-vsphere, issues 1654 and 2089).
func slotOfName(name string) (int, bool) {
	if g := slotName.FindStringSubmatch(name); g != nil {
		n := decimal(g[1])
		if port := n - n%32; n > 160 && port <= lastPort {
			return n%32*1024 + port, true
		}
		return n, true
	}
	if g := pciName.FindStringSubmatch(name); g != nil {
		return slotAt(decimal(g[1]), decimal(g[2]))
	}
	if g := onboardName.FindStringSubmatch(name); g != nil {
		n := decimal(g[1])
		return slotAt(n>>8&0xff, n>>3&0x1f)
	}
	return 0, false
}

// lastPort is the slot of the last of the four root ports' first function.
const lastPort = 256

// nameOfSlot is the name that a card has by its slot.
func nameOfSlot(slot int) string { return fmt.Sprintf("ens%d", slot%1024+slot/1024) }

// otherPlace tells that a name says another place than a card's. It is told only
// of places that VMware has always numbered in this way: on root ports, and on
// the conventional bridge. Machines with UEFI have others since hardware version
// 20 (Broadcom KB 407595).
func otherPlace(name string, slot int) bool {
	said, ok := slotOfName(name)
	return ok && said != slot && (onPort(said) && onPort(slot) || onBridge(said) && onBridge(slot))
}

func onPort(slot int) bool   { return slot%1024 >= 160 && slot%1024 <= lastPort && slot%32 == 0 }
func onBridge(slot int) bool { return slot >= 32 && slot < 64 }

func slotOfAddress(path string) (int, bool) {
	g := pciAddress.FindStringSubmatch(path)
	if g == nil {
		return 0, false
	}
	bus, err := strconv.ParseInt(g[2], 16, 32)
	if err != nil {
		return 0, false
	}
	device, err := strconv.ParseInt(g[3], 16, 32)
	if err != nil {
		return 0, false
	}
	return slotAt(int(bus), int(device))
}

// AtPath tells whether one of udev's ID_PATHs, with blanks between them, is that
// of a slot. A slot that is not known may be at any, and what is no PCI address
// may be of any slot.
func AtPath(paths string, slot int) bool {
	for p := range strings.FieldsSeq(paths) {
		if s, ok := slotOfAddress(p); !ok || slot == 0 || s == slot {
			return true
		}
	}
	return false
}

// slotAt is VMware's pciSlotNumber of a PCI address. Bus 2 is the conventional
// bridge, with slots from 32. Above it are four root ports of eight functions:
// function f of port p makes bus 3+8p+f and slot 1024f+160+32p.
//
// Source: VMX files: pciBridge4 to pciBridge7, each with functions = "8".
func slotAt(bus, device int) (int, bool) {
	switch {
	case bus == 0:
		return device, true
	case bus == 2:
		return 32 + device, true
	case bus >= 3 && bus < 3+32:
		return (bus-3)%8*1024 + 160 + (bus-3)/8*32 + device, true
	}
	return 0, false
}

// pciOrder compares slots as the kernel finds their cards: by port, function and
// device.
func pciOrder(a, b int) int {
	return cmp.Or(cmp.Compare(a%1024/32, b%1024/32), cmp.Compare(a/1024, b/1024), cmp.Compare(a%32, b%32))
}

// decimal is a string of digits that a pattern has checked and bounded.
func decimal(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// kernelOrder are the cards' numbers in the order of VMware's PCI bus, or the
// record's order when it does not say where they are.
func kernelOrder(nics []machine.NIC) []int {
	order := make([]int, len(nics))
	known := true
	for i, n := range nics {
		order[i] = i
		known = known && n.Slot > 0
	}
	if known {
		slices.SortStableFunc(order, func(a, b int) int { return pciOrder(nics[a].Slot, nics[b].Slot) })
	}
	return order
}
