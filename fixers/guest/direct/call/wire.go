package call

import (
	"bufio"
	"encoding/gob"
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Pair makes the two ends of a socket: ours, and one to hand over.
func Pair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs := os.NewFile(uintptr(fds[1]), "socket")
	ours, err := Socket(os.NewFile(uintptr(fds[0]), "socket"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// Socket is the socket that was handed over.
func Socket(f *os.File) (net.Conn, error) {
	conn, err := net.FileConn(f)
	return conn, errors.Join(err, f.Close())
}

func newReader(from io.Reader) *gob.Decoder { return gob.NewDecoder(bufio.NewReader(from)) }

// writer sends values, those of one message at once.
type writer struct {
	buffer *bufio.Writer
	out    *gob.Encoder
}

func newWriter(to io.Writer) *writer {
	buffer := bufio.NewWriter(to)
	return &writer{buffer, gob.NewEncoder(buffer)}
}

func (w *writer) send(values ...any) error {
	for _, v := range values {
		if err := w.out.Encode(v); err != nil {
			return err
		}
	}
	return w.buffer.Flush()
}

// maxAnswer bounds an answer. The largest are lists of guest.MaxEntries names.
const maxAnswer = 64 << 20

var errTooLong = errors.New("it is too long")

// bounded reads no more than is left.
type bounded struct {
	from io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.from.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
