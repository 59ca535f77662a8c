package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var topmost = strings.Repeat("0f", 32)

// whole is a superblock as veritysetup writes it.
func whole() superblock {
	s := superblock{Magic: [8]byte{'v', 'e', 'r', 'i', 't', 'y'}, Version: 1, HashType: 1, DataBlock: 4096, HashBlock: 4096, DataBlocks: 196608, SaltSize: 2}
	copy(s.Algorithm[:], "sha256")
	copy(s.Salt[:], "\xab\xcd")
	return s
}

// written is a file that begins with a superblock.
func written(t *testing.T, s superblock) string {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, s); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hashes")
	if err := os.WriteFile(path, append(b.Bytes(), make([]byte, 4096)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheMapperIsToldOfTheHashes(t *testing.T) {
	s, err := read(written(t, whole()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.table("/dev/sda3", "/dev/sda4", topmost)
	if want := "1 /dev/sda3 /dev/sda4 4096 4096 196608 1 sha256 " + topmost + " abcd"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestDamagedHashesAreNotUsed(t *testing.T) {
	for name, spoil := range map[string]func(*superblock){
		"none":             func(s *superblock) { s.Magic[0] = 0 },
		"another version":  func(s *superblock) { s.Version = 2 },
		"no block size":    func(s *superblock) { s.HashBlock = 0 },
		"an odd one":       func(s *superblock) { s.DataBlock = 4095 },
		"too long a salt":  func(s *superblock) { s.SaltSize = 257 },
		"no block":         func(s *superblock) { s.DataBlocks = 0 },
		"too many of them": func(s *superblock) { s.DataBlocks = 1 << 41 },
	} {
		s := whole()
		spoil(&s)
		if _, err := read(written(t, s)); !errors.Is(err, ErrRoot) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, words := range [][2]string{{"sha256 1 ignore_corruption", topmost}, {"sha256", "0f 1 ignore_corruption"}, {"", topmost}} {
		s := whole()
		s.Algorithm = [32]byte{}
		copy(s.Algorithm[:], words[0])
		if got, err := s.table("/dev/a", "/dev/b", words[1]); !errors.Is(err, ErrRoot) {
			t.Errorf("%q becomes %q, %v", words, got, err)
		}
	}
}
