package dashboard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// alone puts the test's thread into a network of its own, and returns a way into it.
func alone(t *testing.T) (namespace int) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal("only root may have a network of its own")
		}
		t.Skip("needs root for a network of its own")
	}
	runtime.LockOSThread() // for ever: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	namespace, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(namespace); err != nil {
			t.Error(err)
		}
	})
	return namespace
}

// tap makes a card that works as long as the test runs, and returns its index.
func tap(t *testing.T, name string) (index uint32) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(control)
	request.SetUint16(unix.IFF_UP)
	up := unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, request)
	if err := errors.Join(up, unix.IoctlIfreq(control, unix.SIOCGIFINDEX, request)); err != nil {
		t.Fatal(err)
	}
	return request.Uint32()
}

// give gives a link an address as a DHCP client does, for a time, or for ever.
// Source: rtnetlink(7), RTM_NEWADDR.
func give(t *testing.T, index uint32, prefix string, lent time.Duration) {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	ip, family := p.Addr().AsSlice(), byte(unix.AF_INET)
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	ne := binary.NativeEndian
	body := ne.AppendUint32([]byte{family, byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}, index)
	for _, kind := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		body = append(ne.AppendUint16(ne.AppendUint16(body, uint16(4+len(ip))), kind), ip...)
	}
	if lent > 0 {
		body = ne.AppendUint16(ne.AppendUint16(body, 4+16), unix.IFA_CACHEINFO)
		for _, v := range []uint32{uint32(lent.Seconds()), uint32(lent.Seconds()), 0, 0} {
			body = ne.AppendUint32(body, v)
		}
	}
	header := ne.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	header = ne.AppendUint16(ne.AppendUint16(header, unix.RTM_NEWADDR), unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_ACK)
	if err := ask(append(append(header, make([]byte, 8)...), body...)); err != nil {
		t.Fatalf("%s: %v", prefix, err)
	}
}

// ask sends the kernel one request, and reads its answer.
func ask(request []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("%d bytes, %w", n, err)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func TestLinksAreToldWithHowTheirAddressesCame(t *testing.T) {
	alone(t)
	index := tap(t, "lan0")
	give(t, index, "192.0.2.10/24", time.Hour)
	give(t, index, "198.51.100.7/25", 0)
	give(t, index, "2001:db8::10/64", time.Hour)
	give(t, index, "2001:db8::11/64", 0)
	got, err := Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range got { // the kernel may list the newest first
		slices.SortFunc(l.Addresses, func(a, b Address) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	}
	want := []Link{{Name: "lan0", Up: true, Addresses: []Address{
		{Prefix: netip.MustParsePrefix("192.0.2.10/24"), How: "DHCP"},
		{Prefix: netip.MustParsePrefix("198.51.100.7/25"), How: "static"},
		{Prefix: netip.MustParsePrefix("2001:db8::10/64"), How: "automatic"},
		{Prefix: netip.MustParsePrefix("2001:db8::11/64"), How: "static"},
	}}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestChangesOfLinksAreTold(t *testing.T) {
	namespace := alone(t)
	index := tap(t, "lan0")
	ctx, cancel := context.WithCancel(t.Context())
	changed, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(namespace, unix.CLONE_NEWNET); err != nil {
			ended <- err
			return
		}
		ended <- linkChanges(ctx, func() { changed <- struct{}{} })
	}()
	for i, deadline := 1, time.After(10*time.Second); ; i++ {
		give(t, index, fmt.Sprintf("192.0.2.%d/24", i), 0) // until somebody listens
		select {
		case <-changed:
		case err := <-ended:
			t.Fatal(err)
		case <-deadline:
			t.Fatal("nothing is told")
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
