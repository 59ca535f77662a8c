package lan

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// A machine of libvirt's is plugged in over TCP, which others could reach too.
func TestALoopbackPortLetsItsUsersInAlone(t *testing.T) {
	for user, welcome := range map[int]bool{os.Geteuid(): true, os.Geteuid() + 1: false} {
		listener, err := ListenLoopback(user)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Serve(listener, static("192.0.2.10/24"))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err = readFrame(conn, make([]byte, maxFrame)) // a guest is asked every second
		if (err == nil) != welcome {
			t.Errorf("let in user %d for user %d: %v", os.Geteuid(), user, err)
		}
		if err := errors.Join(s.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
	}
}

// Lines of a real list; the last connection is being closed, its owner is forgotten.
func TestAConnectionsOwnerIsReadFromItsLine(t *testing.T) {
	local, remote := netip.MustParseAddrPort("127.0.0.1:49018"), netip.MustParseAddrPort("127.0.0.1:5558")
	for line, want := range map[string]int{
		"   4: 0100007F:BF7A 0100007F:15B6 01 00000000:00000000 00:00000000 00000000 64055        0 51226 1 0000000000000000 20 4 0 10 -1": 64055,
		"   5: 0100007F:15B6 0100007F:BF7A 01 00000000:00000000 00:00000000 00000000     0        0 51225 1 0000000000000000 20 4 0 10 -1": -1,
		"   6: 0100007F:BF7A 0100007F:15B6 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0000000000000000":                  -1,
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode":                                 -1,
	} {
		user, ok := ownerIn(line, local, remote)
		if !ok {
			user = -1
		}
		if user != want {
			t.Errorf("ownerIn(%q) = %d, want %d", line, user, want)
		}
	}
}
