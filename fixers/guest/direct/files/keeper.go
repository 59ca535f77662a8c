package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Attributes of the kernel's own, SELinux's labels among them, are set by whoever may
// also mount. So a Keeper there sets them, one on one descriptor at a time, which the
// Remote hands over. Each packet is answered by one.
//
// Source: xattr(7), capabilities(7), CAP_SYS_ADMIN.

// The calls. A packet is the call, the name with its length before it, and the value;
// an answer is an error's number and the value.
const (
	listAttrs = byte(iota)
	getAttr
	setAttr
	removeAttr
)

const (
	maxName   = 255
	maxPacket = maxXattr + maxName + 16
	answer    = 4 // the length of an error's number
)

// Remote keeps attributes through a Keeper's socket. It implements Attrs.
type Remote struct{ socket *net.UnixConn }

// NewRemote makes one of a socket of KeeperPair.
func NewRemote(socket *net.UnixConn) Remote { return Remote{socket} }

func (r Remote) call(what byte, fd int, name string, value []byte) ([]byte, error) {
	if len(name) > maxName || len(value) > maxXattr {
		return nil, unix.ERANGE
	}
	packet := slices.Concat([]byte{what, byte(len(name))}, []byte(name), value)
	if _, _, err := r.socket.WriteMsgUnix(packet, unix.UnixRights(fd), nil); err != nil {
		return nil, err
	}
	said := make([]byte, maxPacket)
	n, err := r.socket.Read(said)
	if err != nil || n < answer {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	if errno := binary.NativeEndian.Uint32(said); errno != 0 {
		return nil, unix.Errno(errno)
	}
	return bytes.Clone(said[answer:n]), nil
}

// List names the attributes.
func (r Remote) List(fd int) ([]string, error) {
	names, err := r.call(listAttrs, fd, "", nil)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00"), nil
}

// Get is the value of one.
func (r Remote) Get(fd int, name string) ([]byte, error) { return r.call(getAttr, fd, name, nil) }

// Set gives one a value.
func (r Remote) Set(fd int, name string, value []byte) error {
	_, err := r.call(setAttr, fd, name, value)
	return err
}

// Remove removes one.
func (r Remote) Remove(fd int, name string) error {
	_, err := r.call(removeAttr, fd, name, nil)
	return err
}

// Keeper does what Remote asks, on files that it may: those of the guest.
type Keeper struct {
	May func(fd int) error
}

// Serve answers until the socket ends.
func (k Keeper) Serve(socket *net.UnixConn) error {
	packet, rights := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4))
	for {
		n, rn, _, _, err := socket.ReadMsgUnix(packet, rights)
		if err != nil || n == 0 {
			if n == 0 || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		value, err := k.one(packet[:n], rights[:rn])
		said := binary.NativeEndian.AppendUint32(nil, uint32(errnoOf(err)))
		if _, err := socket.Write(append(said, value...)); err != nil {
			return err
		}
	}
}

func errnoOf(err error) unix.Errno {
	errno, ok := errors.AsType[unix.Errno](err)
	if !ok && err != nil {
		return unix.EIO
	}
	return errno
}

func (k Keeper) one(packet, rights []byte) ([]byte, error) {
	fd, err := handed(rights)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := k.May(fd); err != nil {
		return nil, err
	}
	if len(packet) < 2 || len(packet) < 2+int(packet[1]) {
		return nil, unix.EINVAL
	}
	name := string(packet[2 : 2+packet[1]])
	return keep(packet[0], procName(fd), name, packet[2+packet[1]:])
}

// handed is the one descriptor that came along.
func handed(rights []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return -1, err
	}
	if len(messages) != 1 {
		return -1, unix.EBADF
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	for _, more := range fds[1:] {
		unix.Close(more)
	}
	return fds[0], nil
}

// procName is a path to what a descriptor stands for, links included, for
// system calls that take no bare descriptor.
func procName(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func keep(what byte, file, name string, value []byte) ([]byte, error) {
	buffer := make([]byte, maxXattr)
	switch what {
	case listAttrs:
		n, err := unix.Listxattr(file, buffer)
		return buffer[:max(0, n)], err
	case getAttr:
		n, err := unix.Getxattr(file, name, buffer)
		return buffer[:max(0, n)], err
	case setAttr:
		return nil, unix.Setxattr(file, name, value, 0)
	case removeAttr:
		return nil, unix.Removexattr(file, name)
	}
	return nil, unix.EINVAL
}

// KeeperPair makes the two ends of a Keeper's socket, the second to hand over.
func KeeperPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs := os.NewFile(uintptr(fds[1]), "attributes")
	ours, err := keeperSocket(os.NewFile(uintptr(fds[0]), "attributes"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

func keeperSocket(f *os.File) (*net.UnixConn, error) {
	conn, err := net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}
