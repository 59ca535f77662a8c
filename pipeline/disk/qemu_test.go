package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

// byQEMU serves a disk by QEMU's own drivers, which are the other opinion of what is
// in it.
func byQEMU(t *testing.T, c *Chain) *Source {
	t.Helper()
	dir := must(proc.PrivateDir())(t)
	n := rawNode(c.Path)
	switch c.Format {
	case VMDK:
		n = must(vmdkNode(c, dir))(t)
	case QCOW2:
		n["driver"], n["backing"] = QCOW2, nil
	}
	return must(serveNode(t.Context(), n, c.Size, dir))(t)
}

func vmdkNode(c *Chain, dir string) (n blockdev, err error) { // nil below the last disk
	for i := len(c.links) - 1; i >= 0; i-- {
		l, file := c.links[i], c.links[i].path
		if !l.single {
			if file, err = l.write(filepath.Join(dir, node("disk", i))); err != nil {
				return nil, err
			}
		}
		n = blockdev{"driver": VMDK, "read-only": true, "file": fileNode(file), "backing": n}
	}
	if c.links[0].padding() > 0 {
		n = blockdev{"driver": Raw, "read-only": true, "size": c.Size, "file": n}
	}
	return n, nil
}

// write makes a descriptor of what was found, beside links to the extents'
// files, and returns it: a descriptor cannot hold every file's name.
func (l link) write(base string) (descriptor string, err error) {
	name := func(i int) string { return fmt.Sprintf("%s-extent%d", base, i) }
	for i, p := range l.parts {
		if p.Kind == Zero {
			err = zeroes(name(i), p.Sectors*sectorSize)
		} else {
			err = os.Symlink(p.path, name(i))
		}
		if err != nil {
			return "", err
		}
	}
	descriptor = base + ".vmdk"
	return descriptor, os.WriteFile(descriptor, []byte(l.text(func(i int) string { return filepath.Base(name(i)) })), 0o600)
}

// zeroes makes a file of zeros that takes no room.
func zeroes(path string, size int64) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

// padding is how many sectors QEMU finds behind the end of the disk.
func (l link) padding() int64 {
	if last := l.parts[len(l.parts)-1]; last.sparse != nil {
		return last.sparse.capacity - last.Sectors
	}
	return 0
}

// text is a descriptor for QEMU of what was found: it reads none that a stranger
// wrote. QEMU takes only RW extents, would leave out those of kind ZERO without
// a word, and knows VMFS and FLAT, SPARSE and VMFSSPARSE as the same.
//
// Source: QEMU, block/vmdk.c, vmdk_parse_extents, vmdk_open_desc_file.
func (l link) text(name func(i int) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"vmfs\"\n", l.CID, l.ParentCID)
	for i, p := range l.parts {
		switch p.Kind {
		case SESparse:
			fmt.Fprintf(&b, "RW %d SESPARSE %q\n", p.Sectors, name(i))
		case Sparse, VMFSSparse:
			fmt.Fprintf(&b, "RW %d SPARSE %q\n", p.Sectors, name(i))
		default:
			fmt.Fprintf(&b, "RW %d FLAT %q %d\n", p.Sectors, name(i), p.Offset)
		}
	}
	return b.String()
}
