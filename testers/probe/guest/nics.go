package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"hyper2kvm/testers/probe/wire"
)

// nics are the network interfaces but the loopback.
func (s system) nics() ([]wire.NIC, error) {
	entries, err := os.ReadDir(s.root + "/sys/class/net")
	if err != nil {
		return nil, err
	}
	addrs, err := addresses()
	if err != nil {
		return nil, err
	}
	var nics []wire.NIC
	for _, e := range entries {
		name, dir := e.Name(), "/sys/class/net/"+e.Name()
		index, err := strconv.Atoi(s.read(dir + "/ifindex"))
		if err != nil || name == "lo" || len(nics) == maxItems {
			continue // bonding_masters is a file among the interfaces
		}
		nic := wire.NIC{
			Name: name, MAC: s.read(dir + "/address"), Permanent: permanentMAC(name),
			Carrier: s.read(dir+"/carrier") == "1", State: s.read(dir + "/operstate"), Addrs: addrs[index],
		}
		if chain := s.drivers(dir + "/device"); len(chain) > 0 {
			nic.Driver = chain[0]
		}
		lower, err := filepath.Glob(s.root + dir + "/lower_*")
		if err != nil {
			return nics, err
		}
		for _, l := range lower {
			nic.Lower = append(nic.Lower, strings.TrimPrefix(filepath.Base(l), "lower_"))
		}
		nics = append(nics, nic)
	}
	return nics, nil
}

// addresses are the usable addresses of every interface, by its index.
// Source: rtnetlink(7).
func addresses() (map[int][]netip.Prefix, error) {
	table, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	found := map[int][]netip.Prefix{}
	for _, m := range messages {
		if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < syscall.SizeofIfAddrmsg {
			continue
		}
		bits, flags := int(m.Data[1]), m.Data[2]
		index := int(binary.NativeEndian.Uint32(m.Data[4:]))
		if flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 || len(found[index]) == maxItems {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, fmt.Errorf("addresses: %w", err)
		}
		if a := local(attrs); a.IsValid() {
			found[index] = append(found[index], netip.PrefixFrom(a, bits))
		}
	}
	return found, nil
}

// local is an interface's own address; IFA_ADDRESS is the peer's where there
// is an IFA_LOCAL.
func local(attrs []syscall.NetlinkRouteAttr) netip.Addr {
	var found netip.Addr
	for _, a := range attrs {
		kind := a.Attr.Type
		if kind == syscall.IFA_LOCAL || kind == syscall.IFA_ADDRESS && !found.IsValid() {
			found, _ = netip.AddrFromSlice(a.Value)
		}
	}
	return found
}

// permanentMAC is the hardware's own MAC, which a bond hides; "" if the
// interface has none. Source: Linux, include/uapi/linux/ethtool.h.
func permanentMAC(name string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	question := struct {
		cmd, size uint32
		data      [32]byte
	}{cmd: unix.ETHTOOL_GPERMADDR, size: 32}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of struct ifreq
	}{data: unsafe.Pointer(&question)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 || question.size != 6 || question.data == [32]byte{} {
		return ""
	}
	var parts []string
	for _, b := range question.data[:6] {
		parts = append(parts, fmt.Sprintf("%02x", b))
	}
	return strings.Join(parts, ":")
}

// gateways are the default gateways of both families.
func (s system) gateways() []wire.Gate {
	v4, _ := s.readAll("/proc/net/route") // absent without the protocol
	v6, _ := s.readAll("/proc/net/ipv6_route")
	found := append(routes4(string(v4)), routes6(string(v6))...)
	slices.SortFunc(found, func(a, b wire.Gate) int {
		return strings.Compare(a.Interface+a.Addr.String(), b.Interface+b.Addr.String())
	})
	found = slices.Compact(found)
	return found[:min(len(found), 8)]
}

// routes4 reads /proc/net/route: interface, destination, gateway, flags, …,
// metric, mask; addresses are numbers in the machine's byte order.
func routes4(table string) []wire.Gate {
	var found []wire.Gate
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		number, err := strconv.ParseUint(f[2], 16, 32)
		if err != nil || number == 0 {
			continue
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(number))
		metric, _ := strconv.ParseUint(f[6], 10, 32) // 0 if it is none
		found = append(found, wire.Gate{Addr: netip.AddrFrom4(b), Interface: f[0], Metric: uint32(metric)})
	}
	return found
}

// routes6 reads /proc/net/ipv6_route: destination, its length, source, its
// length, next hop, metric, …, interface.
func routes6(table string) []wire.Gate {
	var found []wire.Gate
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[1] != "00" || f[9] == "lo" {
			continue
		}
		b, err := hex.DecodeString(f[4])
		if err != nil {
			continue
		}
		metric, _ := strconv.ParseUint(f[5], 16, 32) // 0 if it is none
		if a, ok := netip.AddrFromSlice(b); ok && a.Is6() && !a.IsUnspecified() {
			found = append(found, wire.Gate{Addr: a, Interface: f[9], Metric: uint32(metric)})
		}
	}
	return found
}
