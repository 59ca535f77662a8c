package source

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/machine"
)

var vmxNIC = regexp.MustCompile(`^ethernet(\d+)\.present$`)

// mostNICs is how many network cards a machine has.
//
// Source: VMware Configuration Maximums, vSphere 8.
const mostNICs = 10

// mostSlot bounds a PCI slot number: VMware's are below 2^15.
const mostSlot = 1 << 16

func (v VMX) nics() ([]machine.NIC, error) {
	var numbers []int
	for key := range v {
		at := vmxNIC.FindStringSubmatch(key)
		if at == nil || v.absent("ethernet"+at[1]) {
			continue
		}
		n, err := strconv.Atoi(at[1])
		if err != nil || n >= mostNICs || strconv.Itoa(n) != at[1] {
			return nil, fmt.Errorf("ethernet%.20s is no network card that VMware has (ethernet0 to ethernet%d)", at[1], mostNICs-1)
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	var nics []machine.NIC
	for _, n := range numbers {
		nic, err := v.nic(fmt.Sprintf("ethernet%d", n))
		if err != nil {
			return nil, err
		}
		nics = append(nics, nic)
	}
	return nics, nil
}

func (v VMX) nic(device string) (machine.NIC, error) {
	nic := machine.NIC{
		Network:      cmp.Or(v[device+".networkname"], v[device+".dvs.portgroupid"], v[device+".vnet"]),
		Model:        strings.ToLower(v[device+".virtualdev"]),
		Connection:   strings.ToLower(v[device+".connectiontype"]),
		Disconnected: v.is(device+".startconnected", "FALSE"),
	}
	var err error
	if nic.Slot, err = v.number(device+".pcislotnumber", 0, mostSlot); err != nil {
		return nic, err
	}
	// addressType static and vpx keep the address in one key, generated in another
	mac := cmp.Or(v[device+".generatedaddress"], v[device+".address"])
	if v.is(device+".addresstype", "static") || v.is(device+".addresstype", "vpx") {
		mac = cmp.Or(v[device+".address"], v[device+".generatedaddress"])
	}
	if nic.MAC, err = macAddress(mac); err != nil {
		return nic, fmt.Errorf("%s: %w", device, err)
	}
	return nic, nil
}

// macAddress is an address in machine.NIC's form; a NIC that was never started
// has none yet.
func macAddress(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || mac.String() == "00:00:00:00:00:00" {
		return "", fmt.Errorf("%.40q is not the MAC address of a network card", text)
	}
	return mac.String(), nil
}
