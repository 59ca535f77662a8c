package guest

import "io/fs"

// FileMode turns a Unix st_mode into Go's: type, permissions, set-id and
// sticky bits.
func FileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, bit := range []struct {
		unix uint32
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&bit.unix != 0 {
			m |= bit.mode
		}
	}
	switch mode & 0o170000 {
	case 0o100000, 0:
	case 0o040000:
		m |= fs.ModeDir
	case 0o120000:
		m |= fs.ModeSymlink
	case 0o010000:
		m |= fs.ModeNamedPipe
	case 0o140000:
		m |= fs.ModeSocket
	case 0o020000:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case 0o060000:
		m |= fs.ModeDevice
	default:
		m |= fs.ModeIrregular
	}
	return m
}

// UnixMode is the permissions, set-id and sticky bits as chmod(2) takes them.
func UnixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		mode |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return mode
}

// IsTwin tells whether an extended attribute only shows another one again: XFS
// lists access lists under these names too. Engines leave them out.
// Source: Linux fs/xfs/xfs_xattr.c, xfs_acl.c.
func IsTwin(xattr string) bool {
	return xattr == "trusted.SGI_ACL_FILE" || xattr == "trusted.SGI_ACL_DEFAULT"
}
