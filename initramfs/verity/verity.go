// Package verity has the kernel check every block of a partition that it reads, by a tree
// of hashes in another one whose topmost hash is known.
package verity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// ErrRoot is a partition whose contents are not those of the hash.
var ErrRoot = errors.New("the contents are not those that the boot entry names")

// superblock begins the partition with the hashes.
// Source: cryptsetup, docs "DMVerity", on-disk format version 1.
type superblock struct {
	Magic      [8]byte
	Version    uint32
	HashType   uint32
	UUID       [16]byte
	Algorithm  [32]byte
	DataBlock  uint32
	HashBlock  uint32
	DataBlocks uint64
	SaltSize   uint16
	_          [6]byte
	Salt       [256]byte
}

const sector = 512

// Open gives the checked contents of the device data a name, by the hashes in the device
// hashes and the topmost of them in hex, and returns the device that has them.
func Open(name, data, hashes, topmost string) (device string, err error) {
	s, err := read(hashes)
	if err != nil {
		return "", fmt.Errorf("%s: %w", hashes, err)
	}
	table, err := s.table(data, hashes, topmost)
	if err != nil {
		return "", err
	}
	return create(name, "verity", table, s.DataBlocks*uint64(s.DataBlock)/sector)
}

func read(hashes string) (s superblock, err error) {
	f, err := os.Open(hashes)
	if err != nil {
		return s, err
	}
	defer f.Close()
	if err := binary.Read(io.LimitReader(f, 512), binary.LittleEndian, &s); err != nil {
		return s, err
	}
	return s, s.check()
}

func (s *superblock) check() error {
	block := func(n uint32) bool { return n >= 512 && n <= 1<<16 && n&(n-1) == 0 }
	switch {
	case string(s.Magic[:]) != "verity\x00\x00" || s.Version != 1:
		return fmt.Errorf("%w: it has no tree of hashes", ErrRoot)
	case !block(s.DataBlock) || !block(s.HashBlock) || int(s.SaltSize) > len(s.Salt) || s.DataBlocks == 0 || s.DataBlocks > 1<<40:
		return fmt.Errorf("%w: its tree of hashes is damaged", ErrRoot)
	}
	return nil
}

// table is the device-mapper's description.
// Source: kernel, Documentation/admin-guide/device-mapper/verity.rst.
func (s *superblock) table(data, hashes, topmost string) (string, error) {
	algorithm := string(bytes.TrimRight(s.Algorithm[:], "\x00"))
	if _, err := hex.DecodeString(topmost); err != nil || strings.ContainsAny(algorithm, " \n") || algorithm == "" {
		return "", fmt.Errorf("%w: %q %q", ErrRoot, algorithm, topmost)
	}
	salt := "-"
	if s.SaltSize > 0 {
		salt = hex.EncodeToString(s.Salt[:s.SaltSize])
	}
	return fmt.Sprintf("%d %s %s %d %d %d 1 %s %s %s", s.HashType, data, hashes, s.DataBlock, s.HashBlock, s.DataBlocks, algorithm, topmost, salt), nil
}
