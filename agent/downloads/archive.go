package downloads

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"
)

// Bounds of an OVA's files but its disk.
const (
	mostFiles = 16
	mostText  = 1 << 20 // bytes
)

// archive is an OVA that lies somewhere: its descriptor and its manifest, and where in it
// its disk is.
type archive struct {
	descriptor, manifest, disk member
}

// member is a file of an archive.
type member struct {
	name     string
	text     []byte // of all but the disk
	at, size int64
}

// plain are the names of files that lie in no folder.
var plain = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,90}$`)

// readArchive looks through a stranger's OVA. Its manifest is believed of nothing yet.
func readArchive(r io.ReaderAt, size int64) (*archive, error) {
	a := &archive{}
	at := io.NewSectionReader(r, 0, size)
	list := tar.NewReader(at)
	for n := 0; ; n++ {
		h, err := list.Next()
		if errors.Is(err, io.EOF) {
			return a, a.complete()
		}
		if err != nil {
			return nil, fmt.Errorf("%w: it is no OVA, or not a whole one: %w", ErrBase, err)
		}
		if h.Typeflag != tar.TypeReg || !plain.MatchString(h.Name) || len(h.PAXRecords) > 0 || n == mostFiles {
			return nil, fmt.Errorf("%w: it has %.80q in it, or more than %d files, which the appliance's has not", ErrBase, h.Name, mostFiles)
		}
		m := member{name: h.Name, size: h.Size}
		if m.at, err = at.Seek(0, io.SeekCurrent); err != nil {
			return nil, err
		}
		if err := a.take(m, list); err != nil {
			return nil, err
		}
	}
}

// take takes a file by what its name ends with.
func (a *archive) take(m member, content io.Reader) (err error) {
	into := map[string]*member{".ovf": &a.descriptor, ".mf": &a.manifest, ".vmdk": &a.disk}[path.Ext(m.name)]
	switch {
	case into == nil:
		return fmt.Errorf("%w: it has the file %s, which the appliance's has not", ErrBase, m.name)
	case into.name != "":
		return fmt.Errorf("%w: it has more than one file like %s", ErrBase, m.name)
	case into != &a.disk && m.size > mostText:
		return fmt.Errorf("%w: %s has more than %d bytes", ErrBase, m.name, mostText)
	case into != &a.disk:
		if m.text, err = io.ReadAll(content); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrBase, m.name, err)
		}
	}
	*into = m
	return nil
}

// vmdkMagic begins a VMDK that has its description in itself.
// Source: VMware, Virtual Disk Format 1.1, "Hosted Sparse Extent Header".
const vmdkMagic = "KDMV"

func (a *archive) complete() error {
	for _, m := range []struct{ member, what string }{{a.descriptor.name, "descriptor"}, {a.manifest.name, "manifest"}, {a.disk.name, "disk"}} {
		if m.member == "" {
			return fmt.Errorf("%w: it has no %s: take hyper2kvm.ova, as make image builds it", ErrBase, m.what)
		}
	}
	return nil
}

// digests are those of a manifest.
// Source: DMTF DSP0243, 6.4.
var digests = regexp.MustCompile(`(?m)^SHA256 ?\(([^)\n]+)\) ?= ?([0-9a-fA-F]{64})\r?$`)

// promised is the digest that the manifest has of a file; empty if it has none.
func (a *archive) promised(name string) (sum string) {
	for _, m := range digests.FindAllSubmatch(a.manifest.text, -1) {
		if string(m[1]) == name {
			sum = strings.ToLower(string(m[2]))
		}
	}
	return sum
}

// check reads all of an archive, and holds it to its manifest.
func (a *archive) check(ctx context.Context, r io.ReaderAt) error {
	for _, m := range []member{a.descriptor, a.disk} {
		sum, err := digest(ctx, io.NewSectionReader(r, m.at, m.size))
		if err != nil {
			return err
		}
		if sum != a.promised(m.name) {
			return fmt.Errorf("%w: %s is not what its manifest says, with SHA-256: it is damaged, or was changed: upload it again", ErrBase, m.name)
		}
	}
	magic := make([]byte, len(vmdkMagic))
	if _, err := r.ReadAt(magic, a.disk.at); err != nil || string(magic) != vmdkMagic {
		return fmt.Errorf("%w: %s is no VMDK", ErrBase, a.disk.name)
	}
	return nil
}

// digest is the SHA-256 of what is read, in hexadecimal.
func digest(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	for {
		switch _, err := io.CopyN(h, r, 16*mib); {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(h.Sum(nil)), nil
		case err != nil:
			return "", err
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		}
	}
}

// retold is the recipe of an OVA that is another one with values: with its disk as it is.
func (a *archive) retold(from string, values map[string]string, now time.Time) (*recipe, error) {
	text, err := tell(a.descriptor.text, a.disk.name, values)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	manifest := fmt.Sprintf("SHA256(%s)= %x\nSHA256(%s)= %s\n", a.descriptor.name, sum, a.disk.name, a.promised(a.disk.name))
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	for _, m := range []member{{name: a.descriptor.name, text: text}, {name: a.manifest.name, text: []byte(manifest)}, {name: a.disk.name, size: a.disk.size}} {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: m.size + int64(len(m.text)), ModTime: now.Truncate(time.Second), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBase, m.name, err)
		}
		if _, err := w.Write(m.text); err != nil {
			return nil, err
		}
	}
	r := &recipe{}
	r.make(head.Bytes())
	r.add(part{from, a.disk.at, a.disk.size})
	const block, end = 512, 2 * 512
	r.upTo((r.size()+block-1)/block*block + end)
	return r, nil
}
