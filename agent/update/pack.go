package update

import (
	"archive/tar"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// Parts are what an archive is made of.
type Parts struct {
	Kernel       string // a kernel image's file
	Root, Verity io.Reader
	Key          crypto.Signer // RSA
	Scratch      string        // a folder for files on the way
}

// Pack writes an archive, and returns the version that it is of.
func Pack(to io.Writer, p Parts) (version string, err error) {
	k, err := openKernel(p.Kernel)
	if err != nil {
		return "", err
	}
	if err := k.close(); err != nil {
		return "", err
	}
	name := "hyper2kvm_" + k.version
	root, verity := Halves(k.rootHash)
	files := []struct {
		name string
		make func(io.Writer) error
	}{
		{name + ".efi", copied(p.Kernel)},
		{name + ".root." + root + ".zst", compressed(p.Root)},
		{name + ".verity." + verity + ".zst", compressed(p.Verity)},
	}
	var sums []byte
	for _, f := range files {
		sum, err := written(filepath.Join(p.Scratch, f.name), f.make)
		if err != nil {
			return "", err
		}
		sums = fmt.Appendf(sums, "%s  %s\n", sum, f.name)
	}
	digest := sha256.Sum256(sums)
	signature, err := p.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return "", err
	}
	w := tar.NewWriter(to)
	if err := errors.Join(add(w, sumsName, sums), add(w, signatureName, signature)); err != nil {
		return "", err
	}
	for _, f := range files {
		if err := addFile(w, p.Scratch, f.name); err != nil {
			return "", err
		}
	}
	return k.version, w.Close()
}

func copied(path string) func(io.Writer) error {
	return func(to io.Writer) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, f)
		return errors.Join(err, f.Close())
	}
}

func compressed(from io.Reader) func(io.Writer) error {
	return func(to io.Writer) error {
		w, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedDefault))
		if err != nil {
			return err
		}
		_, err = io.Copy(w, from)
		return errors.Join(err, w.Close())
	}
}

// written makes a file, and returns its digest.
func written(path string, fill func(io.Writer) error) (sum string, err error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	err = fill(io.MultiWriter(f, h))
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

func add(w *tar.Writer, name string, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

func addFile(w *tar.Writer, folder, name string) (err error) {
	f, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
