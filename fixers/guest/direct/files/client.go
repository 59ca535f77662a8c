package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"time"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct/call"
)

// Client has a guest's files in the hands of the process that Serve is. It implements
// guest.FS.
type Client struct {
	Caller *call.Caller
	Window *Window
	Limit  time.Duration // how long a call may take
	// Gone is told when the process does not answer any more; what it returns is
	// the error then.
	Gone func(error) error
}

var _ guest.FS = (*Client)(nil)

func ask[R any](c *Client, op string, args any) (R, error) {
	result, err := call.Do[R](context.Background(), c.Caller, op, args, c.Limit)
	if errors.Is(err, call.ErrGone) {
		err = c.Gone(err)
	}
	return result, err
}

func tell(c *Client, op string, args any) error {
	_, err := ask[call.None](c, op, args)
	return err
}

// Enter shows what is mounted at a folder, as the process sees it.
func (c *Client) Enter(folder string) error { return tell(c, "enter", folder) }

// Leave lets go of it.
func (c *Client) Leave() error { return tell(c, "leave", call.None{}) }

// ReadFile reads a regular file of at most limit bytes.
func (c *Client) ReadFile(name string, limit int64) (data []byte, err error) {
	err = c.pieces(name, limit, func(p []byte, size int64) {
		if data == nil {
			data = make([]byte, 0, size)
		}
		data = append(data, p...)
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Digest reads a regular file of at most limit bytes, and keeps its size and its SHA-256.
func (c *Client) Digest(name string, limit int64) (size int64, sum string, err error) {
	h := sha256.New()
	err = c.pieces(name, limit, func(p []byte, _ int64) {
		h.Write(p)
		size += int64(len(p))
	})
	return size, hex.EncodeToString(h.Sum(nil)), err
}

// pieces hands out a file's content piece by piece, each with the whole file's size. A
// piece is gone when take returns.
func (c *Client) pieces(name string, limit int64, take func(p []byte, size int64)) error {
	for at := int64(0); ; {
		p, err := ask[piece](c, "read", readArgs{name, at, limit})
		if err != nil {
			return err
		}
		if p.Size < 0 || p.Size > limit || p.Length < 0 || p.Length > windowSize {
			return Failed("read", name, guest.ErrTooBig)
		}
		take(c.Window.bytes[:p.Length], p.Size)
		if at += int64(p.Length); p.Length == 0 || at >= p.Size {
			return nil
		}
	}
}

// Lstat describes name itself.
func (c *Client) Lstat(name string) (guest.Info, error) { return ask[guest.Info](c, "lstat", name) }

// ReadDir lists a folder, sorted by name.
func (c *Client) ReadDir(name string) ([]guest.Info, error) {
	return ask[[]guest.Info](c, "readdir", name)
}

// Readlink is a symbolic link's target.
func (c *Client) Readlink(name string) (string, error) { return ask[string](c, "readlink", name) }

// Xattrs are the extended attributes of name itself.
func (c *Client) Xattrs(name string) (map[string][]byte, error) {
	x, err := ask[xattrs](c, "xattrs", name)
	for attr, value := range x.Values {
		if value == nil { // an empty one, on its way
			x.Values[attr] = []byte{}
		}
	}
	return x.Values, err
}

// Space tells of a file system what is free on it.
func (c *Client) Space(name string) (guest.Space, error) { return ask[guest.Space](c, "space", name) }

// WriteFile replaces a file's content from an offset on.
func (c *Client) WriteFile(name string, offset int64, data []byte) error {
	for {
		n := copy(c.Window.bytes, data)
		last := n == len(data)
		if err := tell(c, "write", writeArgs{name, offset, n, last}); err != nil || last {
			return err
		}
		data, offset = data[n:], offset+int64(n)
	}
}

// Truncate cuts a regular file to size bytes.
func (c *Client) Truncate(name string, size int64) error {
	return tell(c, "truncate", truncateArgs{name, size})
}

// Mkdir makes a folder.
func (c *Client) Mkdir(name string, mode fs.FileMode) error {
	return tell(c, "mkdir", mkdirArgs{name, mode})
}

// Symlink makes a symbolic link.
func (c *Client) Symlink(target, name string) error {
	return tell(c, "symlink", symlinkArgs{target, name})
}

// Remove removes a file, a symbolic link or an empty folder.
func (c *Client) Remove(name string) error { return tell(c, "remove", name) }

// SetMeta sets owner, mode, extended attributes and modification time of name itself.
func (c *Client) SetMeta(name string, m guest.Meta) error {
	return tell(c, "setmeta", metaArgs{name, m})
}
