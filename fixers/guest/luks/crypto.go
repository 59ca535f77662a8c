package luks

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/xts"
)

// Bounds of what a slot may ask for, so that a hostile header neither exhausts this
// machine nor holds it up for long. cryptsetup asks for 1 GiB at most unless it is
// told otherwise, and for what takes two seconds.
//
// Source: cryptsetup lib/internal.h, DEFAULT_LUKS2_MEMORY_KB.
const (
	MaxMemory     = 1 << 30 // bytes
	maxIterations = 50_000_000
	maxWork       = 64 << 30 // bytes that argon2 goes over
	maxThreads    = 16
)

// kdf makes a key of a passphrase.
type kdf struct {
	kind       string
	hash       string // of pbkdf2
	iterations int64
	salt       []byte
	time       int64 // of argon2
	memory     int64 // KiB
	cpus       int64
}

// Kinds of functions that make keys.
const (
	pbkdf    = "pbkdf2"
	argon2i  = "argon2i"
	argon2id = "argon2id"
)

// derive makes a key of so many bytes.
func (k kdf) derive(passphrase []byte, size int) ([]byte, error) {
	switch k.kind {
	case pbkdf:
		newHash, err := hashOf(k.hash)
		if err != nil {
			return nil, err
		}
		if k.iterations < 1 || k.iterations > maxIterations {
			return nil, fmt.Errorf("%w: it takes %d iterations, and %d are the most", ErrUnsupported, k.iterations, maxIterations)
		}
		return pbkdf2.Key(newHash, string(passphrase), k.salt, int(k.iterations), size)
	case argon2i, argon2id:
		if k.time < 1 || k.memory < 1 || k.cpus < 1 || k.cpus > maxThreads || k.memory > MaxMemory>>10 || k.time > maxWork>>10/k.memory {
			return nil, fmt.Errorf("%w: it takes %d times %d KiB of memory in %d threads, and %d KiB are the most", ErrUnsupported, k.time, k.memory, k.cpus, MaxMemory>>10)
		}
		if free := available(); k.memory<<10 > free {
			return nil, fmt.Errorf("%w: it takes %d MiB of memory, and this machine has %d MiB", ErrUnsupported, k.memory>>10, free>>20)
		}
		defer debug.FreeOSMemory() // it may be a GiB
		f := argon2.IDKey
		if k.kind == argon2i {
			f = argon2.Key
		}
		return f(passphrase, k.salt, uint32(k.time), uint32(k.memory), uint8(k.cpus), uint32(size)), nil
	}
	return nil, fmt.Errorf("%w: its keys are made by %.40q", ErrUnsupported, k.kind)
}

// available is how much memory this machine can give, in bytes.
//
// Source: proc_meminfo(5), MemAvailable.
var available = func() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return MaxMemory
	}
	_, rest, _ := strings.Cut(string(text), "MemAvailable:")
	var kB int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kB); err != nil {
		return MaxMemory
	}
	return kB << 10
}

// digest tells whether a key of the volume is right.
type digest struct {
	kdf
	want []byte
}

func (d digest) of(key []byte) (bool, error) {
	if len(d.want) == 0 || len(d.want) > sha512.Size || d.kind != pbkdf {
		return false, fmt.Errorf("%w: a digest of %d bytes by %.40q", ErrUnsupported, len(d.want), d.kind)
	}
	got, err := d.derive(key, len(d.want))
	return bytes.Equal(got, d.want), err
}

func hashOf(name string) (func() hash.Hash, error) {
	switch name {
	case "sha1":
		return sha1.New, nil
	case "sha256":
		return sha256.New, nil
	case "sha512":
		return sha512.New, nil
	}
	return nil, fmt.Errorf("%w: the hash %.40q is not known", ErrUnsupported, name)
}

// merge puts a split key together.
//
// Source: LUKS On-Disk Format Specification 1.2.3, chapter 2, AFmerge.
func merge(split []byte, size int, newHash func() hash.Hash) []byte {
	key := make([]byte, size)
	for at := 0; ; at += size {
		for i := range key {
			key[i] ^= split[at+i]
		}
		if at+2*size > len(split) {
			return key
		}
		diffuse(key, newHash())
	}
}

// diffuse replaces each piece of a key, as long as a hash, by the hash of it and its
// number.
func diffuse(key []byte, h hash.Hash) {
	for i := uint32(0); len(key) > 0; i++ {
		piece := key[:min(len(key), h.Size())]
		h.Reset()
		h.Write(binary.BigEndian.AppendUint32(nil, i))
		h.Write(piece)
		copy(piece, h.Sum(nil))
		key = key[len(piece):]
	}
}

// mode is a way to decrypt sectors with AES.
type mode struct {
	xts   bool
	essiv bool
}

// newCipher finds the mode that a cipher of dm-crypt's has. plain and plain64 differ
// beyond 2 TiB alone.
//
// Source: Linux Documentation/admin-guide/device-mapper/dm-crypt.rst.
func newCipher(name string) (mode, error) {
	switch strings.TrimSuffix(name, "64") {
	case "aes-xts-plain":
		return mode{xts: true}, nil
	case "aes-cbc-plain":
		return mode{}, nil
	case "aes-cbc-essiv:sha256":
		return mode{essiv: true}, nil
	}
	return mode{}, fmt.Errorf("%w: the cipher %.60q is not known", ErrUnsupported, name)
}

// decrypt decrypts sectors, of which the first is number 0, in their place.
func (m mode) decrypt(key, data []byte) error {
	if m.xts {
		c, err := xts.NewCipher(aes.NewCipher, key)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHeader, err)
		}
		for i := 0; i < len(data); i += sector {
			c.Decrypt(data[i:i+sector], data[i:i+sector], uint64(i/sector))
		}
		return nil
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHeader, err)
	}
	for i := 0; i < len(data); i += sector {
		iv := make([]byte, aes.BlockSize)
		binary.LittleEndian.PutUint64(iv, uint64(i/sector))
		if m.essiv {
			salt := sha256.Sum256(key)
			e, err := aes.NewCipher(salt[:])
			if err != nil {
				return err
			}
			e.Encrypt(iv, iv)
		}
		cipher.NewCBCDecrypter(c, iv).CryptBlocks(data[i:i+sector], data[i:i+sector])
	}
	return nil
}
