package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/testers/probe/wire"
)

// pingTime is how long a gateway may take to answer: both ends may be emulated.
const pingTime = 3 * time.Second

// ping sends an echo request to a gateway and tells whether it answered.
// Source: RFC 792, RFC 4443; raw(7): IPv4's header is received, IPv6's is not,
// and the kernel makes ICMPv6's checksum.
func ping(g wire.Gate) (bool, error) {
	family, protocol, request, reply := unix.AF_INET, unix.IPPROTO_ICMP, byte(8), byte(0)
	if g.Addr.Is6() {
		family, protocol, request, reply = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return false, fmt.Errorf("ping %v: %w", g.Addr, err)
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, g.Interface); err != nil {
		return false, fmt.Errorf("ping %v: %w", g.Addr, err)
	}
	timeout := unix.NsecToTimeval(int64(pingTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return false, fmt.Errorf("ping %v: %w", g.Addr, err)
	}
	id := uint16(os.Getpid())
	if err := unix.Sendto(fd, echo(request, id), 0, destination(g)); err != nil {
		return false, fmt.Errorf("ping %v: %w", g.Addr, err)
	}
	buf := make([]byte, 1500)
	for deadline := time.Now().Add(pingTime); time.Now().Before(deadline); {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return false, nil // no answer is what we wanted to know
		}
		if isReply(buf[:n], g.Addr.Is4(), reply, id) {
			return true, nil
		}
	}
	return false, nil
}

func echo(kind byte, id uint16) []byte {
	b := []byte{kind, 0, 0, 0, 0, 0, 0, 1}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// checksum is RFC 1071's, for an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func isReply(b []byte, header bool, kind byte, id uint16) bool {
	if header && len(b) > 0 {
		b = b[min(len(b), int(b[0]&0x0f)*4):]
	}
	return len(b) >= 8 && b[0] == kind && binary.BigEndian.Uint16(b[4:]) == id
}

func destination(g wire.Gate) unix.Sockaddr {
	if g.Addr.Is4() {
		return &unix.SockaddrInet4{Addr: g.Addr.As4()}
	}
	to := &unix.SockaddrInet6{Addr: g.Addr.As16()}
	if b, err := os.ReadFile("/sys/class/net/" + g.Interface + "/ifindex"); err == nil {
		index, _ := strconv.ParseUint(string(b[:max(0, len(b)-1)]), 10, 32) // 0: any
		to.ZoneId = uint32(index)
	}
	return to
}
