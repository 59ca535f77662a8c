package update

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"regexp"
	"strings"
)

// Names in an archive that are always the same.
const (
	sumsName      = "SHA256SUMS"
	signatureName = "SHA256SUMS.sig"
)

// How much an archive may hold, in bytes.
const (
	mostSums      = 4 << 10
	mostSignature = 4 << 10
	mostKernel    = 200 << 20
	mostPartition = 4 << 30
)

// archive is one that is read: what it says that it holds was signed by somebody who is
// trusted, and what it holds comes in the order in which it is asked for.
type archive struct {
	version string
	root    string // UUIDs of the partitions
	verity  string
	sums    [3]line
	tar     *tar.Reader
}

// line is one of SHA256SUMS.
type line struct {
	name string
	sum  []byte
}

var members = regexp.MustCompile(`\A([0-9a-f]{64})  (hyper2kvm_([^_\s/]+)\.efi)
([0-9a-f]{64})  (hyper2kvm_([^_\s/]+)\.root\.([0-9a-f-]{36})\.zst)
([0-9a-f]{64})  (hyper2kvm_([^_\s/]+)\.verity\.([0-9a-f-]{36})\.zst)
\z`)

// openArchive reads what an archive says of itself. Trust is certificates, PEM.
func openArchive(from io.Reader, trust []byte) (*archive, error) {
	a := &archive{tar: tar.NewReader(from)}
	sums, err := a.small(sumsName, mostSums)
	if err != nil {
		return nil, err
	}
	signature, err := a.small(signatureName, mostSignature)
	if err != nil {
		return nil, err
	}
	if err := signed(sums, signature, trust); err != nil {
		return nil, err
	}
	return a, a.told(sums)
}

// told takes over what SHA256SUMS says.
func (a *archive) told(sums []byte) error {
	m := members.FindSubmatch(sums)
	if m == nil {
		return fmt.Errorf("%w: it does not hold one kernel image, one root and its hashes, and nothing else", ErrArchive)
	}
	text := func(n int) string { return string(m[n]) }
	a.version, a.root, a.verity = text(3), text(7), text(11)
	if a.version != text(6) || a.version != text(10) || !aVersion.MatchString(a.version) {
		return fmt.Errorf("%w: its parts are of several versions", ErrArchive)
	}
	for n, at := range []int{1, 4, 8} {
		sum, err := hex.DecodeString(text(at))
		if err != nil {
			return err
		}
		a.sums[n] = line{text(at + 1), sum}
	}
	return nil
}

// signed tells whether one of those that are trusted has signed what is said. When their
// certificates end is left aside: an appliance's clock may be wrong, and a key that is
// trusted no more is in no later version.
//
// Source: openssl-dgst(1), -sha256 -sign with an RSA key is PKCS #1 v1.5.
func signed(sums, signature, trust []byte) error {
	for block, rest := pem.Decode(trust); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("%w: a certificate in its image cannot be read: %w", ErrCannot, err)
		}
		if c.CheckSignature(x509.SHA256WithRSA, sums, signature) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: it is not signed with a key that this appliance trusts: take one that was built with the same KEYS as its image", ErrArchive)
}

// next goes to the member that comes next, which has to have a name, and tells its size.
func (a *archive) next(name string, most int64) (size int64, err error) {
	h, err := a.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return 0, fmt.Errorf("%w: it ends before %s", ErrArchive, name)
	case err != nil:
		return 0, a.broken(err)
	case h.Name != name || h.Typeflag != tar.TypeReg:
		return 0, fmt.Errorf("%w: %q is where %s should be", ErrArchive, h.Name, name)
	case h.Size > most:
		return 0, fmt.Errorf("%w: %s has %d bytes, at most %d are taken", ErrArchive, name, h.Size, most)
	}
	return h.Size, nil
}

// broken is an archive that does not go on, or whose source does not.
func (a *archive) broken(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is damaged or was cut short: %w", ErrArchive, err)
	}
	return err
}

func (a *archive) small(name string, most int64) ([]byte, error) {
	if _, err := a.next(name, most); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(a.tar)
	if err != nil {
		return nil, a.broken(err)
	}
	return text, nil
}

// member is a part of an archive. Whole tells whether it is what was signed.
type member struct {
	line
	size int64 // bytes
	from *archive
	hash hash.Hash
	err  error // of reading the archive
}

func (a *archive) member(n int, most int64) (*member, error) {
	size, err := a.next(a.sums[n].name, most)
	return &member{line: a.sums[n], size: size, from: a, hash: sha256.New()}, err
}

func (m *member) Read(b []byte) (n int, err error) {
	n, err = m.from.tar.Read(b)
	m.hash.Write(b[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = m.from.broken(err)
		err = m.err
	}
	return n, err
}

// failed is why a member could not be made use of.
func (m *member) failed(err error) error {
	if m.err != nil {
		return m.err
	}
	return fmt.Errorf("%w: %s is damaged: %w", ErrArchive, m.name, err)
}

// onto writes a member into a file.
func (m *member) onto(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, m)
	return errors.Join(err, m.whole(), f.Sync(), f.Close())
}

// whole reads what is left of a member.
func (m *member) whole() error {
	if _, err := io.Copy(io.Discard, m); err != nil {
		return err
	}
	if !bytes.Equal(m.hash.Sum(nil), m.sum) {
		return fmt.Errorf("%w: %s is not what was signed: get it anew", ErrArchive, m.name)
	}
	return nil
}

// end checks that nothing comes after what was asked for.
func (a *archive) end() error {
	h, err := a.tar.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return a.broken(err)
	}
	return fmt.Errorf("%w: %q is more than it may hold", ErrArchive, h.Name)
}

// Halves are the UUIDs that partitions have by the hash of their root: the root's is of the
// first half, that of the hashes of the second.
//
// Source: UAPI group, Discoverable Partitions Specification.
func Halves(hash string) (root, verity string) {
	if len(hash) != 64 {
		return "", ""
	}
	text := func(h string) string { return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-") }
	return text(hash[:32]), text(hash[32:])
}
