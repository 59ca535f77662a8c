// Package ova writes the appliance as vSphere imports it: a descriptor, a manifest of
// digests, and the disk, in one archive.
package ova

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"hyper2kvm/agent/firstboot"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
)

// Appliance is what is written.
type Appliance struct {
	Name       string
	Version    string
	CPUs       int
	MemoryMiB  int
	Capacity   int64                // of its disk, in bytes; what is behind the image is the appliance's state
	Properties []firstboot.Property // what it can be told when it is deployed
}

// The least that the appliance is given; migrations side by side want more. What is behind
// the image on its disk keeps settings, logs, and the overlays of migrations that run.
const (
	CPUs      = 4
	MemoryMiB = 8192
	Capacity  = 64 << 30 // bytes
)

// Usual is the appliance as it is given to people.
func Usual(version string) Appliance {
	return Appliance{Name: "hyper2kvm", Version: version, CPUs: CPUs, MemoryMiB: MemoryMiB, Capacity: Capacity, Properties: firstboot.Properties()}
}

// file is one of the archive.
type file struct {
	name string
	size int64
	text []byte // nil: it is on disk
	path string
}

// Write writes the appliance whose disk is the raw image into a file, which must not be
// there. Of one version and image it is the same each time. It needs a folder on the same file
// system for the time that it takes.
func Write(ctx context.Context, a Appliance, raw, out string) (err error) {
	work, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+"-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	d := file{name: a.Name + "-disk1.vmdk", path: filepath.Join(work, "disk.vmdk")}
	if err := stream(ctx, raw, filepath.Join(work, "grown"), d.path, a.Capacity); err != nil {
		return err
	}
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	d.size = info.Size()
	ovf, err := a.descriptor(d, raw)
	if err != nil {
		return err
	}
	part := filepath.Join(work, "ova")
	if err := a.archive(part, ovf, d); err != nil {
		return err
	}
	return os.Link(part, out)
}

// stream writes the disk as VMware streams it, grown to a capacity by an overlay, and in the
// order of its sectors: with -W, chance would order it.
func stream(ctx context.Context, raw, overlay, vmdk string, capacity int64) error {
	raw, err := filepath.Abs(raw)
	if err != nil {
		return err
	}
	if _, err := proc.Run(ctx, "qemu-img", "create", "-q", "-f", disk.QCOW2, "-F", disk.Raw, "-b", raw, "--", overlay, fmt.Sprint(capacity)); err != nil {
		return err
	}
	if _, err := proc.Run(ctx, "qemu-img", "convert", "-q", "-f", disk.QCOW2, "-O", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic", "--", overlay, vmdk); err != nil {
		return err
	}
	return identify(vmdk)
}

//go:embed appliance.ovf.tmpl
var ovfText string

var ovfTemplate = template.Must(template.New("ovf").Funcs(template.FuncMap{"x": escape}).Parse(ovfText))

func escape(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

func (a Appliance) descriptor(d file, raw string) (file, error) {
	info, err := os.Stat(raw)
	if err != nil {
		return file{}, err
	}
	var b bytes.Buffer
	err = ovfTemplate.Execute(&b, struct {
		Appliance
		Disk      string
		DiskSize  int64
		Populated int64
	}{a, d.name, d.size, info.Size()})
	return file{name: a.Name + ".ovf", size: int64(b.Len()), text: b.Bytes()}, err
}

// archive writes descriptor, manifest and disk, in the order that importers read them in.
// Source: DMTF DSP0243, 6.4.
func (a Appliance) archive(out string, ovf, d file) error {
	manifest, err := manifest(ovf, d)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, part := range []file{ovf, {name: a.Name + ".mf", size: int64(len(manifest)), text: manifest}, d} {
		if err := part.write(w); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func manifest(files ...file) ([]byte, error) {
	var b bytes.Buffer
	for _, f := range files {
		r, err := f.open()
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		_, err = io.Copy(h, r)
		r.Close()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "SHA256(%s)= %s\n", f.name, hex.EncodeToString(h.Sum(nil)))
	}
	return b.Bytes(), nil
}

func (f file) open() (io.ReadCloser, error) {
	if f.text != nil {
		return io.NopCloser(bytes.NewReader(f.text)), nil
	}
	return os.Open(f.path)
}

// write adds the file in the oldest form of archives, which every importer knows. It has no
// time.
func (f file) write(w *tar.Writer) error {
	r, err := f.open()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: f.size, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = io.CopyN(w, r, f.size)
	return err
}
