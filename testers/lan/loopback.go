package lan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// connections is where Linux lists the TCP connections over IPv4, with the user
// who opened each end.
// Source: Linux, Documentation/networking/proc_net_tcp.rst.
const connections = "/proc/net/tcp"

// ListenLoopback opens a TCP port that only this host reaches, for a machine
// that cannot connect to a Unix socket. Anybody on the host may connect, and only
// the given users are let in: whoever else is hung up on. Root, and the programs
// of these users, are trusted.
func ListenLoopback(users ...int) (net.Listener, error) {
	if _, err := os.ReadFile(connections); err != nil { // nobody could be let in
		return nil, err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &loopback{listener, users}, nil
}

type loopback struct {
	net.Listener
	users []int
}

// Accept waits for a connection of one of the users.
func (l *loopback) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if user, err := otherEnd(conn); err == nil && slices.Contains(l.users, user) {
			return conn, nil
		}
		_ = conn.Close() // a stranger's
	}
}

// errNoOwner is a connection whose other end is gone, or is not on this host.
var errNoOwner = errors.New("the connection's other end has no owner")

// looks is how often the list is read for one connection: one that is in it may
// be left out where others end meanwhile.
const looks = 3

// otherEnd is the user who opened the other end of a connection on this host.
func otherEnd(conn net.Conn) (int, error) {
	there, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return 0, err
	}
	here, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return 0, err
	}
	for range looks {
		list, err := os.ReadFile(connections)
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(list)) {
			if user, ok := ownerIn(line, there, here); ok {
				return user, nil
			}
		}
	}
	return 0, errNoOwner
}

// established is the state of a connection that neither end has closed. Of one
// that is being closed, the kernel may have forgotten the owner, and shows root.
const established = "01"

// ownerIn reads one line of the list, if it is the one of a connection.
func ownerIn(line string, local, remote netip.AddrPort) (int, bool) {
	f := strings.Fields(line)
	if len(f) < 8 || f[1] != listed(local) || f[2] != listed(remote) || f[3] != established {
		return 0, false
	}
	user, err := strconv.Atoi(f[7])
	return user, err == nil
}

// listed is an address as the list spells it: four bytes as the host's number.
func listed(a netip.AddrPort) string {
	b := a.Addr().Unmap().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(b[:]), a.Port())
}
