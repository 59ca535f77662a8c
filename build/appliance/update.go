package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hyper2kvm/agent/update"
	"hyper2kvm/pipeline/proc"
)

// update is what an appliance that runs takes: the kernel image, the root and its hashes,
// signed.
func (f forms) update(ctx context.Context, path string) (err error) {
	key, err := f.key()
	if err != nil {
		return err
	}
	parts, err := table(ctx, f.raw)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(f.folder, "update-*.part")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	kernel := filepath.Join(scratch, "kernel")
	esp := fmt.Sprintf("%s@@%d", f.raw, parts[0].start())
	if _, err := (proc.Command{Name: "mcopy", Args: []string{"-n", "-i", esp, "::/EFI/Linux/*.efi", kernel}, Env: []string{"MTOOLS_SKIP_CHECK=1"}}).Run(ctx); err != nil {
		return err
	}
	raw, err := os.Open(f.raw)
	if err != nil {
		return err
	}
	defer raw.Close()
	to, err := os.Create(path)
	if err != nil {
		return err
	}
	version, err := update.Pack(to, update.Parts{Kernel: kernel, Root: parts[2].of(raw), Verity: parts[3].of(raw), Key: key, Scratch: scratch})
	if err == nil && version != f.version {
		err = fmt.Errorf("the image is version %s, and not %s", version, f.version)
	}
	return errors.Join(err, to.Close())
}

// key is what Secure Boot's signatures are made with.
func (f forms) key() (crypto.Signer, error) {
	text, err := os.ReadFile(filepath.Join(f.keys, "secure-boot.key"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("secure-boot.key is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("secure-boot.key cannot sign")
	}
	return signer, nil
}

// part is a partition, in sectors.
type part struct{ Start, Size int64 }

const sector = 512

func (p part) start() int64 { return p.Start * sector }

func (p part) of(raw io.ReaderAt) io.Reader {
	return io.NewSectionReader(raw, p.start(), p.Size*sector)
}

// table is an image's: the ESP, GRUB's, the root and its hashes.
func table(ctx context.Context, raw string) ([]part, error) {
	out, err := proc.Run(ctx, "sfdisk", "--json", raw)
	if err != nil {
		return nil, err
	}
	var read struct {
		Table struct {
			Partitions []part `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(out, &read); err != nil || len(read.Table.Partitions) != 4 {
		return nil, errors.Join(fmt.Errorf("%s is no image of the appliance's", raw), err)
	}
	return read.Table.Partitions, nil
}
