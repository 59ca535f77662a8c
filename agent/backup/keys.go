package backup

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"hyper2kvm/agent/seal"
)

// Errors that callers decide on.
var (
	// ErrPassphrase is one that cannot be used, or does not open the keys.
	ErrPassphrase = errors.New("this passphrase cannot be used")
	// ErrKeys is private files that cannot be put into an archive.
	ErrKeys = errors.New("the private files cannot be kept")
)

// LeastPassphrase is how long a passphrase is, bytes.
const LeastPassphrase = 12

// keys are private files, encrypted.
type keys struct {
	Salt    []byte `json:"salt"`
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory"` // KiB
	Threads uint8  `json:"threads"`
	Sealed  []byte `json:"sealed"`
}

// Of the key that is made of a passphrase, and bounds of what is read.
//
// Source: RFC 9106, section 4, the second recommended option.
const (
	hashTime, hashMemory, hashThreads = 3, 64 << 10, 4

	mostTime, mostMemory = 16, 1 << 20
	mostPrivate          = 16 << 20 // bytes of all private files
	mostFiles            = 1000
)

// sealFile is the file of a state folder with the keys that seal secrets.
const sealFile = "seal.key"

// public are what an archive holds otherwise, or not at all.
var public = map[string]bool{"engine": true, "backup": true, "uploads": true, "libraries": true, "lock": true, "appliance-id": true}

// sealKeys encrypts the private files of a state folder: the keys that seal secrets, the
// certificate's, and what else is not the engine's.
func sealKeys(state string, passphrase seal.Secret) ([]byte, error) {
	if len(passphrase) < LeastPassphrase {
		return nil, fmt.Errorf("%w: give one of %d characters at least", ErrPassphrase, LeastPassphrase)
	}
	files, err := private(state)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(files)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	k := keys{Salt: make([]byte, 16), Time: hashTime, Memory: hashMemory, Threads: hashThreads}
	rand.Read(k.Salt)
	aead, err := k.aead(passphrase)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce)
	k.Sealed = aead.Seal(nonce, nonce, text, bound)
	return json.MarshalIndent(k, "", "  ")
}

// bound is what the encryption is for.
var bound = []byte("hyper2kvm backup keys 1\n")

func (k keys) aead(passphrase seal.Secret) (a interface {
	Seal(dst, nonce, plaintext, additionalData []byte) []byte
	Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error)
}, err error) {
	if k.Time < 1 || k.Time > mostTime || k.Memory < 8 || k.Memory > mostMemory || k.Threads < 1 || len(k.Salt) < 8 {
		return nil, fmt.Errorf("%w: %s asks for what no backup does", ErrArchive, keysName)
	}
	key := argon2.IDKey(passphrase, k.Salt, k.Time, k.Memory, k.Threads, chacha20poly1305.KeySize)
	defer clear(key)
	return chacha20poly1305.NewX(key)
}

// openKeys decrypts private files.
func openKeys(text []byte, passphrase seal.Secret) (files map[string][]byte, err error) {
	var k keys
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, keysName, err)
	}
	aead, err := k.aead(passphrase)
	if err != nil {
		return nil, err
	}
	if len(k.Sealed) < chacha20poly1305.NonceSizeX {
		return nil, fmt.Errorf("%w: %s is too short", ErrArchive, keysName)
	}
	nonce, sealed := k.Sealed[:chacha20poly1305.NonceSizeX], k.Sealed[chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, sealed, bound)
	if err != nil {
		return nil, fmt.Errorf("%w: it does not open the keys in this backup", ErrPassphrase)
	}
	defer clear(plain)
	return files, json.Unmarshal(plain, &files)
}

// private are the files of a state folder that are in no other part of an archive, and
// the keys that systemd has handed to the agent, as the file that would hold them.
func private(state string) (map[string][]byte, error) {
	files, size := map[string][]byte{}, int64(0)
	if folder := os.Getenv("CREDENTIALS_DIRECTORY"); folder != "" {
		text, err := os.ReadFile(filepath.Join(folder, seal.Credential))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKeys, err)
		}
		files[sealFile] = text
	}
	err := fs.WalkDir(os.DirFS(state), ".", func(path string, d fs.DirEntry, err error) error {
		top, _, _ := strings.Cut(path, "/")
		switch {
		case err != nil:
			return err
		case public[top] && d.IsDir():
			return fs.SkipDir
		case public[top] || !d.Type().IsRegular() || files[path] != nil:
			return nil
		}
		text, err := os.ReadFile(filepath.Join(state, filepath.FromSlash(path)))
		if err != nil {
			return err
		}
		if size += int64(len(text)); size > mostPrivate || len(files) == mostFiles {
			return fmt.Errorf("%w: there are more than %d, or more than %d bytes of them", ErrKeys, mostFiles, mostPrivate)
		}
		files[path] = text
		return nil
	})
	return files, err
}
