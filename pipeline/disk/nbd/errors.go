package nbd

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"unicode"
)

var (
	// ErrClosed is a client that Close was called on.
	ErrClosed = errors.New("nbd: client closed")
	// ErrDisconnected is a connection that died: the caller may dial again and
	// repeat the request.
	ErrDisconnected = errors.New("nbd: disconnected")
	// ErrSilent is a server that owes answers and sends nothing. The connection has
	// ended; one that is made anew would wait for the same.
	ErrSilent = errors.New("nbd: the server has fallen silent")
	// ErrProtocol is a server that does not speak NBD, or lies. The connection has
	// ended; repeating is of no use.
	ErrProtocol = errors.New("nbd: protocol broken")
	// ErrRefused is an export that the server does not give.
	ErrRefused = errors.New("refused")
	// ErrNoContext is a metadata context that the server did not give; all that
	// is known of the export is that it may be data.
	ErrNoContext = errors.New("nbd: the server has no such metadata context")
)

// Error is a server's refusal of a request. It unwraps to the server's errno.
type Error struct {
	Errno syscall.Errno
	Text  string // the server's own words, at most 1 KiB; often empty
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Errno.Error()
	}
	return fmt.Sprintf("%v: %s", e.Errno, e.Text)
}

func (e *Error) Unwrap() error { return e.Errno }

// errno is the error that a server's number stands for; one that the protocol
// does not know stands for EINVAL. Source: doc/proto.md, "Error values".
func errno(number uint32) syscall.Errno {
	switch e := syscall.Errno(number); e {
	case syscall.EPERM, syscall.EIO, syscall.ENOMEM, syscall.EINVAL, syscall.ENOSPC,
		syscall.EOVERFLOW, syscall.ENOTSUP, syscall.ESHUTDOWN:
		return e
	default:
		return syscall.EINVAL
	}
}

// broken is an ErrProtocol that says what the server did.
func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// lost is an ErrDisconnected. The reason is for people alone: an errno of the
// connection is none of the disk.
func lost(reason any) error { return fmt.Errorf("%w: %v", ErrDisconnected, reason) }

// printable is a server's text as one line that cannot harm a terminal.
func printable(text []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "?")))
}

// refusals are what an option's errors mean to the user of an export.
var refusals = map[uint32]string{
	repUnsupported:  "the server does not know what is asked",
	repPolicy:       "the server's policy forbids it",
	repInvalid:      "the server takes the request for invalid",
	repPlatform:     "the server's platform or build cannot do it",
	repTLSRequired:  "the server wants TLS",
	repUnknown:      "the server has no such export",
	repBlockSizeReq: "the server wants its block sizes to be asked for",
	repTooBig:       "the server finds the request too big",
}

// refusal is the error of an option that the server refused.
func refusal(code uint32, text string) error {
	if code == repShutdown {
		return lost("the server is shutting down")
	}
	words, known := refusals[code]
	if !known {
		words = fmt.Sprintf("error %#x", code)
	}
	if text != "" {
		words += ": " + text
	}
	return fmt.Errorf("%w: %s", ErrRefused, words)
}
