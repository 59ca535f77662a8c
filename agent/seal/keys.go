package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Credential is the name of systemd's credential that holds the keys:
//
//	head -c 32 /dev/urandom | base64 |
//	  systemd-creds encrypt --name=hyper2kvm-seal - /etc/credstore.encrypted/hyper2kvm-seal
//
// with LoadCredentialEncrypted=hyper2kvm-seal in the unit.
//
// Source: systemd.exec(5), systemd-creds(1).
const Credential = "hyper2kvm-seal"

// Load is a sealer with the keys of systemd's credential, if the agent was given
// credentials; then it is an error if that one is not among them, since a new key in a
// file would not open what is sealed. Else the keys are of the file, which is made if
// it is not there.
//
// Keys are lines of base64, the one that seals first; lines that begin with # count for
// nothing.
func Load(file string) (*Sealer, error) {
	if folder := os.Getenv("CREDENTIALS_DIRECTORY"); folder != "" {
		return fromCredential(folder)
	}
	return fromFile(file)
}

func fromCredential(folder string) (*Sealer, error) {
	// A credential belongs to root, and its group's bits show an access list.
	// Source: systemd, src/core/exec-credential.c, write_credential.
	data, err := readPrivate(filepath.Join(folder, Credential), 0o007)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("systemd gave credentials, but not %s: make one with systemd-creds encrypt --name=%s, and name it in the unit with LoadCredentialEncrypted=", Credential, Credential)
	}
	if err != nil {
		return nil, err
	}
	defer clear(data)
	return parse("the credential "+Credential, data)
}

func fromFile(file string) (*Sealer, error) {
	data, err := readPrivate(file, 0o077)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(file, line()); err != nil {
			return nil, err
		}
		data, err = readPrivate(file, 0o077)
	}
	if err != nil {
		return nil, err
	}
	defer clear(data)
	return parse(file, data)
}

// Rotate puts a new key before those of a file. What is sealed still opens, here and,
// once they have the file too, elsewhere; Reseal seals it with the new one. One at a time
// may do it.
func Rotate(file string) error {
	data, err := readPrivate(file, 0o077)
	if err != nil {
		return err
	}
	defer clear(data)
	if _, err := parse(file, data); err != nil {
		return err
	}
	return replace(file, append(line(), data...))
}

// Keys are those of a sealer as lines, for another appliance that shares its store.
func (s *Sealer) Keys() (lines Secret) {
	for _, k := range s.keys {
		lines = append(lines, k.line()...)
	}
	return lines
}

// With is a sealer with keys that another appliance handed on, as lines, before its own:
// what it seals, they open.
func (s *Sealer) With(lines Secret) (*Sealer, error) {
	shared, err := parse("what another appliance handed on", lines)
	if err != nil {
		return nil, err
	}
	for _, k := range s.keys {
		if !slices.ContainsFunc(shared.keys, func(other key) bool { return other.id == k.id }) {
			shared.keys = append(shared.keys, k)
		}
	}
	return shared, nil
}

const mostKeys = 64

// parse reads keys. Errors do not show any.
func parse(from string, data []byte) (*Sealer, error) {
	s := &Sealer{}
	n := 0
	for text := range bytes.Lines(data) {
		n++
		text = bytes.TrimSpace(text)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		k, err := parseKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d is not the base64 of %d bytes", from, n, keySize)
		}
		s.keys = append(s.keys, k)
	}
	if len(s.keys) == 0 || len(s.keys) > mostKeys {
		return nil, fmt.Errorf("%s has %d keys; 1 at least and %d at most are needed", from, len(s.keys), mostKeys)
	}
	return s, nil
}

func parseKey(text []byte) (key, error) {
	secret := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	defer clear(secret)
	size, err := base64.StdEncoding.Strict().Decode(secret, text)
	if err != nil {
		return key{}, err
	}
	return newKey(secret[:size]) // which refuses another size
}

// line is a new key.
func line() []byte {
	secret := make([]byte, keySize)
	rand.Read(secret)
	return append(base64.StdEncoding.AppendEncode(nil, secret), '\n')
}
