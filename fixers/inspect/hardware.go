package inspect

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/pipeline/machine"
)

// hardware is a guest's disks with what the source says of each; the two lists
// are in the same order.
type hardware struct {
	disks   []guest.Disk
	records []machine.Disk
	nics    []machine.NIC
}

// slot is one disk with its record; the record is empty when there is none.
type slot struct {
	guest.Disk
	record machine.Disk
}

// slots are the disks whose record satisfies want.
func (h hardware) slots(want func(machine.Disk) bool) []slot {
	var found []slot
	for i, d := range h.disks {
		var r machine.Disk
		if i < len(h.records) {
			r = h.records[i]
		}
		if want(r) {
			found = append(found, slot{d, r})
		}
	}
	return found
}

func every(machine.Disk) bool { return true }

func onBus(bus string) func(machine.Disk) bool {
	return func(d machine.Disk) bool { return d.Bus == bus }
}

// part is a disk's partition by number, or the disk itself for "".
func part(d guest.Disk, number string) (string, bool) {
	if number == "" {
		return d.Name, true
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return "", false
	}
	for _, p := range d.Partitions {
		if p.Number == n {
			return p.Name, true
		}
	}
	return "", false
}

var (
	letterName = regexp.MustCompile(`^(xvd|[shv]d)([a-z]{1,3})(\d*)$`)
	nvmeName   = regexp.MustCompile(`^nvme(\d{1,4})n(\d{1,4})(?:p(\d+))?$`)
)

// kernelName resolves sda1, hdc2, vdb and nvme0n1p3.
func (h hardware) kernelName(name string) (string, bool) {
	if m := letterName.FindStringSubmatch(name); m != nil {
		d, ok := h.lettered(m[1], letters(m[2]))
		if !ok {
			return "", false
		}
		return part(d.Disk, m[3])
	}
	if m := nvmeName.FindStringSubmatch(name); m != nil {
		d, ok := h.namespace(number(m[1]), number(m[2])-1)
		if !ok {
			return "", false
		}
		return part(d.Disk, m[3])
	}
	return "", false
}

// lettered finds disk number n of those that the kernel names with prefix.
func (h hardware) lettered(prefix string, n int) (slot, bool) {
	all := h.slots(every)
	switch prefix {
	case "sd":
		all = h.slots(func(d machine.Disk) bool { return d.Bus != "nvme" })
		if mixed(all) { // the order of the adapters' drivers is not known
			return slot{}, false
		}
	case "hd":
		if ide := h.slots(onBus("ide")); len(ide) > 0 {
			return only(filter(ide, func(s slot) bool { return s.record.Controller*2+s.record.Unit == n }))
		}
		if len(all) > 1 {
			return slot{}, false
		}
	}
	if n >= len(all) {
		return slot{}, false
	}
	return all[n], true
}

// mixed tells whether disks are on different buses.
func mixed(all []slot) bool {
	return slices.ContainsFunc(all, func(s slot) bool { return s.record.Bus != all[0].record.Bus })
}

// namespace finds NVMe disk unit of controller, both counted in order from 0.
func (h hardware) namespace(controller, unit int) (slot, bool) {
	nvme := h.slots(onBus("nvme"))
	if len(nvme) == 0 && len(h.disks) == 1 && controller == 0 && unit == 0 {
		return h.slots(every)[0], true
	}
	numbers := controllers(nvme)
	if controller >= len(numbers) {
		return slot{}, false
	}
	nvme = filter(nvme, func(s slot) bool { return s.record.Controller == numbers[controller] })
	slices.SortStableFunc(nvme, func(a, b slot) int { return cmp.Compare(a.record.Unit, b.record.Unit) })
	if unit < 0 || unit >= len(nvme) {
		return slot{}, false
	}
	return nvme[unit], true
}

// controllers are the numbers of the controllers that have disks, in order.
func controllers(all []slot) []int {
	var numbers []int
	for _, s := range all {
		numbers = append(numbers, s.record.Controller)
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

func filter(all []slot, keep func(slot) bool) []slot {
	return slices.DeleteFunc(slices.Clone(all), func(s slot) bool { return !keep(s) })
}

// letters is the number of a disk's letters: a is 0, z 25, aa 26.
func letters(s string) int {
	n := 0
	for _, c := range []byte(s) {
		n = n*26 + int(c-'a') + 1
	}
	return n - 1
}

// number is a string of digits that a pattern has checked and bounded.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
