package dashboard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Link is a network card, or something else with an address.
type Link struct {
	Name      string
	Up        bool // it has a carrier
	Addresses []Address
}

// Address is one of a link's.
type Address struct {
	Prefix netip.Prefix
	How    string // static, DHCP, automatic
	Fault  string
}

// Links are this machine's network cards, and whatever else has an address; not those
// that are for this machine alone.
func Links() ([]Link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	addresses, err := addressesByIndex()
	if err != nil {
		return nil, err
	}
	links := []Link{}
	for _, i := range all {
		l := Link{Name: i.Name, Up: i.Flags&net.FlagRunning != 0, Addresses: addresses[i.Index]}
		if i.Flags&net.FlagLoopback == 0 && (isCard(i.Name) || len(l.Addresses) > 0) {
			links = append(links, l)
		}
	}
	return links, nil
}

// isCard tells a card from bridges, taps and tunnels.
// Source: Linux, Documentation/ABI/testing/sysfs-class-net: device links to the hardware.
func isCard(name string) bool {
	_, err := os.Stat("/sys/class/net/" + name + "/device")
	return err == nil
}

func addressesByIndex() (map[int][]Address, error) {
	table, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for addresses: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's addresses: %w", err)
	}
	found := map[int][]Address{}
	for _, m := range messages {
		if index, a, ok := parseAddress(m); ok {
			found[index] = append(found[index], a)
		}
	}
	return found, nil
}

// parseAddress reads one message. Addresses that only this machine's neighbours reach
// with the name of a card besides, and those that change by themselves every day, are
// left out: nobody types them.
//
// Source: rtnetlink(7), struct ifaddrmsg; Linux, include/uapi/linux/if_addr.h.
func parseAddress(m syscall.NetlinkMessage) (index int, a Address, ok bool) {
	if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
		return 0, a, false
	}
	bits, flags, scope := int(m.Data[1]), m.Data[2], m.Data[3]
	attributes, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil || scope >= unix.RT_SCOPE_LINK || m.Data[0] == unix.AF_INET6 && flags&unix.IFA_F_TEMPORARY != 0 {
		return 0, a, false
	}
	ip := localIP(attributes)
	a = Address{Prefix: netip.PrefixFrom(ip, bits), How: how(ip, flags)}
	if flags&unix.IFA_F_DADFAILED != 0 {
		a.Fault = "another machine has it too"
	}
	return int(binary.NativeEndian.Uint32(m.Data[4:])), a, a.Prefix.IsValid()
}

// localIP is this end's address; the zero Addr if there is none.
func localIP(attributes []syscall.NetlinkRouteAttr) (ip netip.Addr) {
	for _, attribute := range attributes {
		isLocal := attribute.Attr.Type == unix.IFA_LOCAL
		if isLocal || attribute.Attr.Type == unix.IFA_ADDRESS && !ip.IsValid() {
			if parsed, ok := netip.AddrFromSlice(attribute.Value); ok {
				ip = parsed
			}
		}
	}
	return ip
}

// how an address came: one that the kernel is to forget at some time was lent.
func how(ip netip.Addr, flags uint8) string {
	switch {
	case flags&unix.IFA_F_PERMANENT != 0:
		return "static"
	case ip.Is4():
		return "DHCP"
	}
	return "automatic"
}

// linkChanges tells each time when a link or an address has changed, until ctx ends.
func linkChanges(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "netlink")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR}); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })()
	buffer := make([]byte, 1<<16)
	for {
		_, err := f.Read(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // which says that some were missed
			return err
		}
		changed()
	}
}
