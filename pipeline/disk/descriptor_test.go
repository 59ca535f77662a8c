package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The files in testdata are descriptors as VMware's programs write them, with
// other names and numbers.
func TestDescriptorsOfVMwaresProgramsAreRead(t *testing.T) {
	rw := func(sectors int64, kind Kind, file string) Extent {
		return Extent{Access: ReadWrite, Sectors: sectors, Kind: kind, File: file}
	}
	for name, want := range map[string]Descriptor{
		"esxi-thin": {CreateType: "vmfs", CID: 0x75748046, ParentCID: noParent, Extents: []Extent{rw(83886080, VMFS, "web01-flat.vmdk")}},
		"esxi-snapshot": {CreateType: "seSparse", CID: 0xb9807598, ParentCID: 0x984805a6, ParentHint: "web01-000001.vmdk",
			Extents: []Extent{rw(83886080, SESparse, "web01-000002-sesparse.vmdk")}},
		"esxi-test-failover": {CreateType: "vmfsSparse", CID: 0xb9807598, ParentCID: 0x984805a6, ParentHint: "/vmfs/volumes/501d996c-86c66169-eea2-005056b007c1/sql/sql.vmdk",
			Extents: []Extent{rw(20971520, VMFSSparse, "hbrimagedisk.RDID-aa0132e8-delta.vmdk")}},
		"esxi-encrypted":    {CreateType: "vmfs", CID: 0xfffffffe, ParentCID: noParent, Encrypted: true, Extents: []Extent{rw(83886080, VMFS, "vault-flat.vmdk")}},
		"esxi-rdm-virtual":  {CreateType: "vmfsRawDeviceMap", CID: 0x1ddd5c91, ParentCID: noParent, Extents: []Extent{rw(1048576000, VMFSRDM, "db01_1-rdm.vmdk")}},
		"esxi-rdm-physical": {CreateType: "vmfsPassthroughRawDeviceMap", CID: 0xfffffffe, ParentCID: noParent, Extents: []Extent{rw(1048576000, VMFSRDM, "db01_2-rdmp.vmdk")}},
		"vsan":              {CreateType: "vmfs", CID: 0xfffffffe, ParentCID: noParent, Extents: []Extent{rw(83886080, VMFS, "vsan://fc0f2f5e-5a2e-4b6b-9d0a-0025b5000a1f")}},
		"workstation-split": {CreateType: "twoGbMaxExtentSparse", CID: 0xfffffffe, ParentCID: noParent,
			Extents: []Extent{rw(8323072, Sparse, "Büro-s001.vmdk"), rw(8323072, Sparse, "Büro-s002.vmdk"), rw(131072, Sparse, "Büro-s003.vmdk")}},
		"workstation-linked-clone": {CreateType: "monolithicSparse", CID: 0x2f3c1a8b, ParentCID: 0xfffffffe, ParentHint: `C:\VMs\ソフト\ソフト.vmdk`,
			Extents: []Extent{rw(125829120, Sparse, "clone-cl1.vmdk")}},
		"workstation-physical": {CreateType: "partitionedDevice", CID: 0xfffffffe, ParentCID: noParent,
			Extents: []Extent{rw(63, Flat, "box-pt.vmdk"), {ReadWrite, 20964762, Flat, `\\.\PhysicalDrive0`, 63}, rw(2048, Zero, "")}},
		"fusion": {CreateType: "twoGbMaxExtentFlat", CID: 0x4f1c8a9e, ParentCID: noParent,
			Extents: []Extent{rw(4192256, Flat, "Virtual Disk-f001.vmdk"), rw(2101248, Flat, "Virtual Disk-f002.vmdk")}},
		"esx2-custom": {CreateType: "2GbMaxExtentFlat", CID: 2, ParentCID: noParent,
			Extents: []Extent{{ReadWrite, 100, Flat, "data.img", 63}, {ReadOnly, 28, Zero, "", 0}}},
	} {
		text := must(os.ReadFile(filepath.Join("testdata", "descriptors", name+".vmdk")))(t)
		got, err := ParseDescriptor(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestADescriptorThatMayMeanTwoThingsIsRefused(t *testing.T) {
	const head = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"vmfs\"\n"
	for text, says := range map[string]string{
		"RW 1\nFLAT \"a\" 0\n":                             "line 6 of its descriptor is no extent as VMware writes them: \"RW 1\"",
		"RW 1FLAT \"a\" 0\n":                               "is no extent as VMware writes them",
		"RW 1 FLAT a 0\n":                                  "is no extent as VMware writes them",
		"RW 1 FLAT \"a\" 0 x\n":                            "is no extent as VMware writes them",
		"RW 1 FLAT \"a\"\" 0\n":                            "is no extent as VMware writes them",
		"RW -1 FLAT \"a\" 0\n":                             "is no extent as VMware writes them",
		"RW 0 FLAT \"a\" 0\n":                              "has an extent of 0 sectors",
		"RW 9999999999999 FLAT \"a\" 0\n":                  "has an extent of 9999999999999 sectors",
		"RW 99999999999999999999 FLAT \"a\" 0\n":           "is no extent as VMware writes them",
		"RW 1 FLAT \"a\" 9999999999999\n":                  "has an extent of 1 sectors at 9999999999999",
		"RW 1 FLOPPY \"a\" 0\n":                            `has an extent of the unknown kind "FLOPPY"`,
		"RW 1 FLAT\n":                                      "has a FLAT extent with the file \"\"",
		"RW 1 ZERO \"a\"\n":                                "has a ZERO extent with the file \"a\"",
		"RW 1 SPARSE \"a\" 8\n":                            "has a SPARSE extent with an offset",
		"RW 1 FLAT \"a\x01b\" 0\n":                         "has a name with a control character",
		"hello\n":                                          `is neither a setting nor an extent: "hello"`,
		"CID=2\n":                                          `gives cid again, and differently: "2" after "1"`,
		"createType=vmfsSparse\n":                          "gives createtype again, and differently",
		"parentFileNameHint=\"a\n":                         "has a quotation mark without its other",
		"parentFileNameHint=\"a\"b\"\n":                    "has a quotation mark within a value",
		"parentFileNameHint=\"a\"\n":                       "names the parent \"a\", and says that it has none",
		strings.Repeat("RW 1 ZERO\n", maxExtents+1):        "is one extent too many: 8192 are read",
		strings.Repeat("RW 1099511627776 ZERO\n", 2):       "claims a disk of 2199023255552 sectors",
		"encoding=\"KOI-7\"\n":                             `its encoding "koi-7" is not known`,
		strings.Repeat("#", maxDescriptor):                 "are too many for a VMDK's descriptor",
		"encoding=\"UTF-8\"\nencoding=\"windows-1252\"\n#": "gives encoding again, and differently",
	} {
		if got, err := ParseDescriptor([]byte(head + text)); !errors.Is(err, ErrNotADisk) || !strings.Contains(err.Error(), says) {
			t.Errorf("ParseDescriptor(%.40q) = %+v, %v, want %q", text, got, err, says)
		}
	}
}

func TestAContentIDHas8Digits(t *testing.T) {
	for _, id := range []string{"", "xyz", "123456789", "-1", "0x1"} {
		if got, err := ParseDescriptor([]byte("CID=" + id)); err == nil || !strings.Contains(err.Error(), "has no content ID of 8 hexadecimal digits") {
			t.Errorf("CID=%s: ParseDescriptor = %+v, %v", id, got, err)
		}
	}
}

func TestADescriptorIsReadToItsFirstZeroByte(t *testing.T) {
	got, err := ParseDescriptor([]byte("createType=vmfs\r\nRW 8 ZERO\r\n\x00RW 1 FLAT \"/etc/shadow\" 0\n"))
	if err != nil || len(got.Extents) != 1 {
		t.Errorf("ParseDescriptor = %+v, %v", got, err)
	}
}

func TestDisksWithoutTheirDataAreRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		is   error
		says string
	}{
		"esxi-encrypted":       {ErrEncrypted, "decrypt it in VMware"},
		"esxi-rdm-virtual":     {ErrDevice, "(RDM) in virtual mode; clone it on ESXi to a disk in files (vmkfstools -i esxi-rdm-virtual.vmdk NEW.vmdk) and give that, or give the mapped LUN itself as a block device"},
		"esxi-rdm-physical":    {ErrDevice, "(RDM) in physical mode; map it again in virtual mode"},
		"workstation-physical": {ErrDevice, "it stands for a device of the VMware host; give that device itself"},
		"vsan":                 {ErrDevice, "is an object of vSAN or vVols; clone it on ESXi to a disk in files"},
		"esxi-thin":            {ErrChain, "web01-flat.vmdk does not exist; put it into"},
	} {
		_, err := ReadChain(t.Context(), filepath.Join("testdata", "descriptors", name+".vmdk"), VMDK, nil)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: ReadChain = %v, want %v and %q", name, err, c.is, c.says)
		}
	}
	for text, says := range map[string]string{
		`createType="vmfs"`:                                           "its descriptor names no data",
		"createType=\"vmfs\"\nRW 8 FLAT \"/dev/sdb\" 0":               `its extent "/dev/sdb" is a device; give that itself`,
		"createType=\"vmfs\"\nRW 8 VMFSRAW \"x\"":                     `its extent "x" is a device`,
		"createType=\"custom\"\nNOACCESS 8 FLAT \"x\" 0":              "VMware itself has no access to its extent",
		"createType=\"hologram\"\nRW 8 ZERO":                          `it is a VMDK of the unknown type "hologram"`,
		"RW 8 ZERO":                                                   `it is a VMDK of the unknown type ""`,
		"createType=\"vmfs\"\nddb.iofilters = \"vmwarevmcrypt\"":      "disk is encrypted",
		"createType=\"fullDevice\"\nRW 8 FLAT \"/dev/sda\" 0":         "it stands for a device of the VMware host",
		"createType=\"vmfsRDMP\"\nRW 8 VMFSRDM \"x-rdmp.vmdk\"":       "in physical mode",
		"createType=\"vmfsRDM\"\nRW 8 VMFSRDM \"x-rdm.vmdk\"":         "in virtual mode",
		"createType=\"vmfs\"\nRW 8 VMFS \"vvol://a/b\"":               "is an object of vSAN or vVols",
		"createType=\"monolithicSparse\"\nkeyID=x\nRW 8 SPARSE \"x\"": "disk is encrypted",
	} {
		path := filepath.Join(t.TempDir(), "x.vmdk")
		writeFile(t, path, "# Disk DescriptorFile\n"+text+"\n")
		if _, err := ReadChain(t.Context(), path, VMDK, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("ReadChain(%q) = %v, want %q", text, err, says)
		}
	}
}

// What QEMU is given says the same as what was read.
func FuzzParseDescriptor(f *testing.F) {
	files, err := filepath.Glob("testdata/descriptors/*.vmdk")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDescriptor(text)
		if err != nil {
			if !errors.Is(err, ErrNotADisk) {
				t.Errorf("ParseDescriptor = %v, want %v", err, ErrNotADisk)
			}
			return
		}
		if len(d.Extents) > maxExtents || d.Sectors() > maxSectors {
			t.Errorf("%d extents with %d sectors", len(d.Extents), d.Sectors())
		}
		_ = d.refusal("x.vmdk") // whatever it says
	})
}
