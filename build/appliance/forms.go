package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"libvirt.org/go/libvirtxml"

	"hyper2kvm/agent/ova"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
)

func (f forms) stick(_ context.Context, path string) error {
	from, err := os.Open(f.raw)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(path)
	if err != nil {
		return err
	}
	defer to.Close()
	w, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, from); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return to.Close()
}

func (f forms) ova(ctx context.Context, path string) error {
	return ova.Write(ctx, ova.Usual(f.version), f.raw, path)
}

// qcow2 is written in the order of its sectors: with -W, chance would order it.
func (f forms) qcow2(ctx context.Context, path string) error {
	if _, err := proc.Run(ctx, "qemu-img", "convert", "-q", "-c", "-f", disk.Raw, "-O", disk.QCOW2, "-o", "compression_type=zstd", "--", f.raw, path); err != nil {
		return err
	}
	_, err := proc.Run(ctx, "qemu-img", "resize", "-q", "-f", disk.QCOW2, "--", path, fmt.Sprint(ova.Capacity))
	return err
}

// unsecured is a firmware that starts what nobody has signed. libvirt's own choice may be one
// that has Microsoft's keys, and starts nothing of ours.
var unsecured = []libvirtxml.DomainOSFirmwareFeature{{Enabled: "no", Name: "secure-boot"}, {Enabled: "no", Name: "enrolled-keys"}}

// domain is for the qcow2 beside it, once its path is put in.
func (f forms) domain(_ context.Context, path string) error {
	x := libvirtxml.Domain{Type: "kvm", Name: "hyper2kvm",
		Memory: &libvirtxml.DomainMemory{Value: ova.MemoryMiB, Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: ova.CPUs},
		OS: &libvirtxml.DomainOS{Firmware: "efi", FirmwareInfo: &libvirtxml.DomainOSFirmwareInfo{Features: unsecured},
			Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		CPU:      &libvirtxml.DomainCPU{Mode: "host-passthrough"},
		Devices: &libvirtxml.DomainDeviceList{
			Disks: []libvirtxml.DomainDisk{{Device: "disk", Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Discard: "unmap"},
				Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: "/var/lib/libvirt/images/hyper2kvm.qcow2"}},
				Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"}}},
			Interfaces: []libvirtxml.DomainInterface{{Source: &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: "default"}},
				Model: &libvirtxml.DomainInterfaceModel{Type: "virtio"}}},
			Serials:  []libvirtxml.DomainSerial{{Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}}},
			Graphics: []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{AutoPort: "yes"}}},
			Videos:   []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}},
			VSock:    &libvirtxml.DomainVSock{CID: &libvirtxml.DomainVSockCID{Auto: "yes"}},
			RNGs:     []libvirtxml.DomainRNG{{Model: "virtio", Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}}},
		}}
	text, err := x.Marshal()
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text+"\n"), 0o644)
}

func (f forms) sums(names []string) error {
	var b strings.Builder
	for _, name := range names {
		sum, err := sum(filepath.Join(f.folder, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s  %s\n", sum, name)
	}
	return os.WriteFile(filepath.Join(f.folder, "SHA256SUMS"), []byte(b.String()), 0o644)
}

func sum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
