package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Errors of disks whose data cannot be had from their files.
var (
	// ErrEncrypted is a disk whose data make no sense without VMware's key.
	ErrEncrypted = errors.New("disk is encrypted")
	// ErrDevice is a descriptor whose data are on a device.
	ErrDevice = errors.New("disk's data are not in a file")
)

// readable are the createTypes that are read, in lower case. What an extent is
// follows from its own kind.
//
// Source: VMware Virtual Disk Format 5.0, "createType"; libvmdk's documentation
// for the 2Gb spelling, custom and the types of vmkfstools; QEMU, block/vmdk.c,
// for seSparse.
var readable = []string{
	"monolithicsparse", "monolithicflat", "streamoptimized", "custom",
	"twogbmaxextentsparse", "twogbmaxextentflat", "2gbmaxextentsparse", "2gbmaxextentflat",
	"vmfs", "vmfsthin", "vmfspreallocated", "vmfseagerzeroedthick", "vmfssparse", "sesparse",
}

// onDevices are the createTypes whose data are on a device, in lower case, with
// what to do about it. A mapping in virtual mode can be cloned as it is, one in
// physical mode only as a virtual one.
//
// Source: VMware Virtual Disk Format 5.0, "createType"; vSphere Virtual Machine
// Administration, "Virtual Disk Compatibility Modes".
var onDevices = map[string]string{
	"fulldevice":                  ofHost,
	"partitioneddevice":           ofHost,
	"vmfsraw":                     ofHost,
	"vmfsrdm":                     virtualRDM,
	"vmfsrawdevicemap":            virtualRDM,
	"vmfsrdmp":                    physicalRDM,
	"vmfspassthroughrawdevicemap": physicalRDM,
}

const (
	ofHost      = "it stands for a device of the VMware host; give that device itself, or a copy of it in a file that ends in .raw"
	virtualRDM  = "it is a raw device mapping (RDM) in virtual mode; clone it on ESXi to a disk in files (vmkfstools -i %s NEW.vmdk) and give that, or give the mapped LUN itself as a block device of this host (/dev/disk/by-id/…)"
	physicalRDM = "it is a raw device mapping (RDM) in physical mode; map it again in virtual mode on ESXi, clone it to a disk in files (vmkfstools -i %s NEW.vmdk) and give that, or give the LUN itself as a block device of this host (/dev/disk/by-id/…)"
)

// refusal says why the disk of a descriptor cannot be read, and what to do.
func (d Descriptor) refusal(path string) error {
	kind := strings.ToLower(d.CreateType)
	advice, device := onDevices[kind]
	switch {
	case d.Encrypted:
		return fmt.Errorf("%s: %w: decrypt it in VMware (with the VM off, give it a storage policy without encryption, or take off the password in its options) and copy it again", path, ErrEncrypted)
	case device && strings.Contains(advice, "%s"):
		return fmt.Errorf("%s: %w: "+advice, path, ErrDevice, filepath.Base(path))
	case device:
		return fmt.Errorf("%s: %w: %s", path, ErrDevice, advice)
	case !slices.Contains(readable, kind):
		return fmt.Errorf("%s: %w: it is a VMDK of the unknown type %.60q; clone it in VMware to another type", path, ErrNotADisk, d.CreateType)
	case len(d.Extents) == 0:
		return fmt.Errorf("%s: %w: its descriptor names no data; copy the disk from the source again", path, ErrNotADisk)
	}
	for _, e := range d.Extents {
		if err := e.refusal(); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func (e Extent) refusal() error {
	switch {
	case e.Kind == VMFSRDM || e.Kind == VMFSRaw || strings.HasPrefix(e.File, `\\.\`) || strings.HasPrefix(e.File, "/dev/"):
		return fmt.Errorf("%w: its extent %q is a device; give that itself, or a copy of it in a file that ends in .raw", ErrDevice, e.File)
	case strings.Contains(e.File, "://"):
		return fmt.Errorf("%w: its extent %q is an object of vSAN or vVols; clone it on ESXi to a disk in files (vmkfstools -i) on an NFS or VMFS datastore", ErrDevice, e.File)
	case e.Access == NoAccess:
		return fmt.Errorf("%w: VMware itself has no access to its extent %q; clone it in VMware to another type", ErrNotADisk, e.File)
	}
	return nil
}
