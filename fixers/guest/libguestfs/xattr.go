//go:build appliance

package libguestfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// libguestfs takes an attribute's value as text that ends at its first zero
// (RFC 4506 strings), so binary values go as what they mean: capabilities and
// access lists in their text forms. No other can be stored; all can be read.

// Attributes with a text form.
const (
	capability = "security.capability" // taken by the kernel from a file that is written to
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// isText tells whether a value has no zero but one at its end, which the
// library sends too.
func isText(value []byte) bool { return !bytes.Contains(bytes.TrimSuffix(value, []byte{0}), []byte{0}) }

// storable tells before anything is changed whether all values can be stored.
func storable(xattrs map[string][]byte) error {
	for attr, value := range xattrs {
		var err error
		switch {
		case attr == capability:
			_, err = capText(value)
		case attr == aclAccess || attr == aclDefault:
			_, err = aclText(value)
		case !isText(value):
			err = errors.ErrUnsupported
		}
		if err != nil {
			return fmt.Errorf("%s: a binary value: %w", attr, err)
		}
	}
	return nil
}

// setXattrs makes a file's attributes exactly these.
func (g *engine) setXattrs(name string, want map[string][]byte) error {
	have, err := g.Xattrs(name)
	if err != nil {
		return err
	}
	for attr := range have {
		if _, ok := want[attr]; ok {
			continue
		}
		if err := g.handle.Lremovexattr(attr, name); err != nil {
			return fmt.Errorf("%s: %w", attr, err)
		}
	}
	for attr, value := range want {
		if old, ok := have[attr]; ok && bytes.Equal(old, value) {
			continue
		}
		if err := g.setXattr(name, attr, value); err != nil {
			return fmt.Errorf("%s: %w", attr, err)
		}
	}
	return nil
}

// setXattr sets one attribute that is storable.
func (g *engine) setXattr(name, attr string, value []byte) error {
	switch attr {
	case capability:
		text, err := capText(value)
		if err != nil {
			return err
		}
		return g.handle.Cap_set_file(name, text)
	case aclAccess, aclDefault:
		text, err := aclText(value)
		if err != nil {
			return err
		}
		return g.handle.Acl_set_file(name, strings.TrimPrefix(attr, "system.posix_acl_"), text)
	}
	return g.handle.Lsetxattr(attr, string(value), len(value), name)
}

// capText is a file's capabilities as cap_from_text(3) reads them.
// Source: Linux include/uapi/linux/capability.h, struct vfs_cap_data, revision 2.
func capText(value []byte) (string, error) {
	const revision2, effective = 0x02000000, 1
	le := binary.LittleEndian
	if len(value) != 20 || le.Uint32(value)&^effective != revision2 {
		return "", errors.ErrUnsupported
	}
	permitted := uint64(le.Uint32(value[4:])) | uint64(le.Uint32(value[12:]))<<32
	inheritable := uint64(le.Uint32(value[8:])) | uint64(le.Uint32(value[16:]))<<32
	clauses := []string{"="}
	for n := range 64 {
		flags := ""
		if permitted>>n&1 == 1 {
			flags += "p"
		}
		if inheritable>>n&1 == 1 {
			flags += "i"
		}
		if flags == "" {
			continue
		}
		if le.Uint32(value)&effective != 0 {
			flags += "e"
		}
		clauses = append(clauses, fmt.Sprintf("%d+%s", n, flags))
	}
	return strings.Join(clauses, " "), nil
}

// aclTags are the kinds of an access list's entries.
// Source: Linux include/uapi/linux/posix_acl.h.
var aclTags = map[uint16]string{1: "u:", 2: "u:", 4: "g:", 8: "g:", 16: "m:", 32: "o:"}

// aclText is an access list as acl_from_text(3) reads it.
func aclText(value []byte) (string, error) {
	const version, anyone = 2, 0xffffffff
	le := binary.LittleEndian
	if len(value) < 4 || le.Uint32(value) != version || len(value)%8 != 4 {
		return "", errors.ErrUnsupported
	}
	var entries []string
	for e := value[4:]; len(e) > 0; e = e[8:] {
		entry, ok := aclTags[le.Uint16(e)]
		if !ok {
			return "", errors.ErrUnsupported
		}
		if id := le.Uint32(e[4:]); id != anyone {
			entry += fmt.Sprint(id)
		}
		entry += ":"
		for i, right := range "rwx" {
			if le.Uint16(e[2:])>>(2-i)&1 == 0 {
				right = '-'
			}
			entry += string(right)
		}
		entries = append(entries, entry)
	}
	return strings.Join(entries, ","), nil
}
