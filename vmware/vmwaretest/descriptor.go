package vmwaretest

import (
	"fmt"
	"path/filepath"
	"regexp"
)

// deltaNumber is what VMware puts behind a disk's name for a delta's.
var deltaNumber = regexp.MustCompile(`-\d{6}$`)

const (
	sector = 512
	// neverWritten is the content ID that ESXi gives a disk when it makes it.
	neverWritten = "fffffffe"
	noParent     = "ffffffff"
)

// baseDescriptor is the text of a disk's own, as ESXi writes it.
//
// Source: VMware Virtual Disk Format 5.0, "The Disk Database"; files of ESXi 6.7 and 7.0.
func baseDescriptor(l *layer) string {
	return descriptor(l, "vmfs", noParent, "", fmt.Sprintf("RW %d VMFS %q", l.size/sector, filepath.Base(l.extent())))
}

// deltaDescriptor is the text of a snapshot's delta.
func deltaDescriptor(l *layer) string {
	hint := filepath.Base(l.parent.file)
	if filepath.Dir(l.parent.file) != filepath.Dir(l.file) {
		hint = l.parent.file // a linked clone's parent is in another folder
	}
	return descriptor(l, "vmfsSparse", neverWritten, fmt.Sprintf("parentFileNameHint=%q\n", hint),
		fmt.Sprintf("RW %d VMFSSPARSE %q", l.size/sector, filepath.Base(l.extent())))
}

func descriptor(l *layer, kind, parent, hint, extent string) string {
	return fmt.Sprintf(`# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=%s
parentCID=%s
isNativeSnapshot="no"
createType=%q
%s
# Extent description
%s

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.virtualHWVersion = "19"
`, neverWritten, parent, kind, hint, extent, l.size/sector/255/63)
}
