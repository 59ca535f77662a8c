// Package seal keeps secrets sealed where they rest: passphrases of guests' disks,
// passwords of hypervisors, whatever a job needs and nobody is to read.
//
// Words:
//
//   - Key: 32 bytes that this machine has. Under systemd they come as the credential
//     hyper2kvm-seal, which systemd decrypts (TPM, or a key of the host) for the agent
//     alone; else from a file with mode 0600 that is made at the first start.
//   - Sealed: encrypted and authenticated with a key, for one name. A sealed value that was
//     changed, or is shown under another name, does not open.
//   - Secret: what was opened. It prints, logs and is saved as [secret].
//
// Rotation: the first key seals, all of them open. Put a new one first, Reseal, then
// take the old one away. Appliances that share a store need the same keys.
//
// Not promised: who can write the store can put back an earlier value of the same name,
// and how long a secret is can be seen.
package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"hyper2kvm/fixers/guest"
)

// Secret is bytes that nobody is to see.
type Secret = guest.Secret

// Why a sealed value does not open.
var (
	ErrNoKey   = errors.New("sealed with a key that this machine does not have")
	ErrDamaged = errors.New("damaged, or sealed for another name")
)

const (
	keySize = chacha20poly1305.KeySize
	idSize  = 8
	version = 1

	headSize = 1 + idSize + chacha20poly1305.NonceSizeX
)

// key is one that a machine has. Its ID tells it from others, and nothing about it. The
// bytes are behind a function: of fields that are not exported, package fmt prints what a
// Secret hides, and follows pointers.
type key struct {
	id   [idSize]byte
	aead func() cipher.AEAD
	line func() []byte // as a file of keys has it
}

func newKey(secret []byte) (key, error) {
	sum := sha256.Sum256(append([]byte("hyper2kvm key ID\n"), secret...))
	aead, err := chacha20poly1305.NewX(secret)
	line := append(base64.StdEncoding.AppendEncode(nil, secret), '\n')
	return key{[idSize]byte(sum[:idSize]), func() cipher.AEAD { return aead }, func() []byte { return line }}, err
}

// Sealer seals and opens. It may be used by many at once.
type Sealer struct{ keys []key }

// Seal encrypts what is kept under a name, with the first key.
//
// A sealed value is a version, the key's ID, a random nonce, and what XChaCha20-Poly1305
// makes of the rest; nonces of 24 bytes may be random, however many there are.
//
// Source: draft-irtf-cfrg-xchacha, section 2.1.
func (s *Sealer) Seal(name string, plaintext []byte) []byte {
	k := s.keys[0]
	sealed := make([]byte, headSize, headSize+len(plaintext)+chacha20poly1305.Overhead)
	sealed[0] = version
	copy(sealed[1:], k.id[:])
	nonce := sealed[1+idSize:]
	rand.Read(nonce)
	return k.aead().Seal(sealed, nonce, plaintext, bound(sealed[:1+idSize], name))
}

// bound is what a sealed value is bound to: version and key, of fixed size, and the name.
func bound(head []byte, name string) []byte {
	return append(append([]byte("hyper2kvm sealed\n"), head...), name...)
}

// Open decrypts what was sealed under a name, or returns ErrNoKey or ErrDamaged.
func (s *Sealer) Open(name string, sealed []byte) (Secret, error) {
	if len(sealed) < headSize+chacha20poly1305.Overhead || sealed[0] != version {
		return nil, fmt.Errorf("the secret %s is %w", name, ErrDamaged)
	}
	id := [idSize]byte(sealed[1:])
	for _, k := range s.keys {
		if k.id == id {
			return k.open(name, sealed)
		}
	}
	return nil, fmt.Errorf("the secret %s is %w: %s", name, ErrNoKey, hex.EncodeToString(id[:]))
}

func (k key) open(name string, sealed []byte) (Secret, error) {
	plaintext, err := k.aead().Open(nil, sealed[1+idSize:headSize], sealed[headSize:], bound(sealed[:1+idSize], name))
	if err != nil {
		return nil, fmt.Errorf("the secret %s is %w", name, ErrDamaged)
	}
	return plaintext, nil
}

// current tells whether something is sealed with the first key.
func (s *Sealer) current(sealed []byte) bool {
	return len(sealed) >= headSize && [idSize]byte(sealed[1:]) == s.keys[0].id
}
