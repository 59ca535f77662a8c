// Package luks reads the headers of LUKS, versions 1 and 2, and derives the key of a
// volume from a passphrase. It maps nothing: what it returns is what a kernel's
// dm-crypt is told. Headers are a guest's, and every size and cost in them is bounded.
//
// Header: what stands in front of the encrypted bytes. Slot: one way to the key of
// the volume, for one passphrase. Digest: how the key is known to be right.
//
// Source: LUKS On-Disk Format Specification 1.2.3; LUKS2 On-Disk Format
// Specification 1.1.1, both of the cryptsetup project.
package luks

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"
)

var (
	// ErrHeader is a header that cryptsetup would refuse too.
	ErrHeader = errors.New("invalid LUKS header")
	// ErrUnsupported is a header that is valid, and asks for what is not done here.
	ErrUnsupported = errors.New("this LUKS is not opened here")
	// ErrPassphrase is a passphrase that no slot is for.
	ErrPassphrase = errors.New("no key slot opens with it")
)

// Header is what a device says of its encrypted volume.
type Header struct {
	Version int
	UUID    string
	Cipher  string // as dm-crypt has it: aes-xts-plain64
	Start   int64  // of the encrypted bytes, in bytes
	Size    int64  // of them, in bytes
	IV      int64  // the number of the first sector, as the cipher counts
	Sector  int64  // bytes that are encrypted together
	slots   []slot
	digest  digest
}

// slot holds the key of the volume, split and encrypted.
type slot struct {
	name    string
	kdf     kdf
	cipher  string
	size    int // of the key that the passphrase gives, bytes
	key     int // of the volume's key, bytes
	stripes int
	hash    string // of the splitting
	start   int64  // of the split key, bytes
}

const (
	sector  = 512
	maxSize = 1 << 60
	maxKey  = 128 // bytes of a key; Source: cryptsetup lib/internal.h, no mode of AES takes more than 64
	// maxStripes is how often a key is split; cryptsetup does so 4000 times.
	maxStripes = 16000
	// patience is how long slots are tried: one may take seconds, and there may be 32.
	patience   = 3 * time.Minute
	magic      = "LUKS\xba\xbe"
	magicOther = "SKUL\xba\xbe" // of version 2's second header
)

// Read reads the header of a device of size bytes.
func Read(r io.ReaderAt, size int64) (*Header, error) {
	head := make([]byte, head1)
	if size < 4*head2 {
		return nil, fmt.Errorf("%w: a device of %d bytes", ErrHeader, size)
	}
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	var h *Header
	var err error
	if string(head[:6]) == magic && head[6] == 0 && head[7] == 1 {
		h, err = parse1(head, size)
	} else {
		h, err = read2(r, size)
	}
	if err != nil {
		return nil, err
	}
	return h, h.check(size)
}

// check holds a header to what every version promises.
func (h *Header) check(size int64) error {
	switch {
	case h.Start <= 0 || h.Size <= 0 || h.Start > size-h.Size:
		return fmt.Errorf("%w: %d bytes at %d of a device of %d", ErrHeader, h.Size, h.Start, size)
	case h.Sector < sector || h.Sector > 8*sector || h.Sector&(h.Sector-1) != 0 || h.Size%h.Sector != 0 || h.Start%sector != 0:
		return fmt.Errorf("%w: %d bytes in sectors of %d", ErrHeader, h.Size, h.Sector)
	case h.IV < 0:
		return fmt.Errorf("%w: sectors count from %d", ErrHeader, h.IV)
	}
	for _, s := range h.slots {
		if s.key < 1 || s.key > maxKey || s.size < 1 || s.size > maxKey || s.stripes < 1 || s.stripes > maxStripes {
			return fmt.Errorf("%w: slot %s has a key of %d bytes, split %d times", ErrHeader, s.name, s.key, s.stripes)
		}
		if s.start < 0 || s.start > size-s.length() {
			return fmt.Errorf("%w: slot %s is at %d of a device of %d bytes", ErrHeader, s.name, s.start, size)
		}
	}
	return nil
}

// Fingerprint tells a volume and a passphrase from others, without showing either.
func (h *Header) Fingerprint(passphrase []byte) string {
	mac := hmac.New(sha256.New, passphrase)
	fmt.Fprintf(mac, "%s %x %x", h.UUID, h.digest.salt, h.digest.want)
	return string(mac.Sum(nil))
}

// length is how much of the device a split key takes: whole sectors of it.
func (s slot) length() int64 {
	return (int64(s.key)*int64(s.stripes) + sector - 1) / sector * sector
}

// Unlock derives the key of the volume. It may take seconds, and as much memory as a
// slot asks for, up to MaxMemory. A passphrase that opens none is ErrPassphrase; if
// a slot was left out, its ErrUnsupported goes along.
func (h *Header) Unlock(ctx context.Context, r io.ReaderAt, passphrase []byte) ([]byte, error) {
	var left error
	began := time.Now()
	for _, s := range h.slots {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if time.Since(began) > patience {
			left = errors.Join(left, fmt.Errorf("slot %s: %w: the slots before it took more than %v", s.name, ErrUnsupported, patience))
			break
		}
		key, err := s.open(r, passphrase)
		if errors.Is(err, ErrUnsupported) {
			left = errors.Join(left, fmt.Errorf("slot %s: %w", s.name, err))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("slot %s: %w", s.name, err)
		}
		right, err := h.digest.of(key)
		if err != nil {
			return nil, err
		}
		if right {
			return key, nil
		}
		clear(key)
	}
	if left != nil {
		return nil, fmt.Errorf("%w: %w", ErrPassphrase, left)
	}
	return nil, ErrPassphrase
}

// open takes a slot's key out of it, right or wrong.
func (s slot) open(r io.ReaderAt, passphrase []byte) ([]byte, error) {
	c, err := newCipher(s.cipher)
	if err != nil {
		return nil, err
	}
	newHash, err := hashOf(s.hash)
	if err != nil {
		return nil, err
	}
	derived, err := s.kdf.derive(passphrase, s.size)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	split := make([]byte, s.length())
	defer clear(split)
	if _, err := r.ReadAt(split, s.start); err != nil {
		return nil, err
	}
	if err := c.decrypt(derived, split); err != nil {
		return nil, err
	}
	return merge(split[:s.key*s.stripes], s.key, newHash), nil
}
