package tree

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/guest"
)

// Parse makes a tree of those files of an archive that are below the folder
// prefix ("before"). Folders that the archive does not name are root's, 0755.
// A file's header may say more than its name:
//
//	-- before/etc/fstab --                                    a file, root's, 0644
//	-- before/var/empty/ mode=0711 --                         a folder
//	-- before/etc/os-release -> ../usr/lib/os-release --      a symbolic link
//	-- before/etc/shadow mode=0640 uid=0 gid=42 --
//	-- before/etc/x mtime=2021-02-03T04:05:06.7Z --           else Epoch
//	-- before/etc/x xattr.security.selinux=etc_t:s0\x00 --    escapes as in Go
//	-- before/boot/initrd encoding=base64 --                  binary content
//	-- before/etc/x eol=no --                                 no newline at the end
//	-- after/etc/x removed --                                 for Overlay
func Parse(archive *txtar.Archive, prefix string) (*FS, error) {
	return Overlay(New(), archive, prefix)
}

// Overlay makes a tree that is base with the archive's files below prefix put
// over it; base stays as it is. A file that is in base keeps the owner, mode
// and attributes that the header does not name, so an archive's "after" lists
// only what differs.
func Overlay(base *FS, archive *txtar.Archive, prefix string) (*FS, error) {
	f := base.Clone()
	for _, file := range archive.Files {
		h, err := parseHeader(file.Name)
		if err != nil {
			return nil, err
		}
		name, ok := strings.CutPrefix(h.name, strings.Trim(prefix, "/")+"/")
		if !ok {
			continue
		}
		h.name = "/" + name
		if err := f.put(h, file.Data); err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name, err)
		}
	}
	return f, nil
}

// header is what an archive says of a file besides its content.
type header struct {
	name, target string
	words        []string // "mode=0640", "removed", as written
}

var wordNames = []string{"mode", "uid", "gid", "mtime", "encoding", "eol"}

// parseHeader takes the known words off the end, so that names may hold spaces.
func parseHeader(s string) (header, error) {
	var h header
	for {
		i := strings.LastIndexByte(s, ' ')
		if i < 0 || !isWord(s[i+1:]) {
			break
		}
		h.words = append(h.words, s[i+1:])
		s = strings.TrimRight(s[:i], " ")
	}
	h.name, h.target, _ = strings.Cut(s, " -> ")
	if path.Clean(h.name) != strings.TrimSuffix(h.name, "/") {
		return header{}, fmt.Errorf("%s: not a clean name", s)
	}
	return h, nil
}

func isWord(s string) bool {
	name, _, ok := strings.Cut(s, "=")
	return s == "removed" || ok && (slices.Contains(wordNames, name) || strings.HasPrefix(name, "xattr."))
}

func (f *FS) put(h header, data []byte) error {
	name := strings.TrimSuffix(h.name, "/")
	if name == "" { // "before/": the root itself
		return f.root.set(h, nil)
	}
	dir := f.folder(path.Dir(name))
	base := path.Base(name)
	if slices.Contains(h.words, "removed") {
		if _, ok := dir.kids[base]; !ok {
			return fs.ErrNotExist
		}
		delete(dir.kids, base)
		return nil
	}
	kind := fs.FileMode(0o644)
	switch {
	case h.target != "":
		kind = fs.ModeSymlink | fs.ModePerm
	case strings.HasSuffix(h.name, "/"):
		kind = fs.ModeDir | 0o755
	}
	n, ok := dir.kids[base]
	if !ok || n.info.Mode.Type() != kind.Type() {
		n = newNode(kind)
		dir.kids[base] = n
	}
	n.target = h.target
	return n.set(h, data)
}

// folder finds or makes a folder, links taken as they are written.
func (f *FS) folder(name string) *node {
	n := f.root
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if part == "" {
			continue
		}
		kid, ok := n.kids[part]
		if !ok || !kid.info.Mode.IsDir() {
			kid = newNode(fs.ModeDir | 0o755)
			n.kids[part] = kid
		}
		n = kid
	}
	return n
}

func (n *node) set(h header, data []byte) error {
	if n.info.Mode.IsRegular() {
		n.data = data
	}
	for _, word := range h.words {
		key, value, _ := strings.Cut(word, "=")
		if err := n.setWord(key, value); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	n.info.Size = int64(len(n.data))
	return nil
}

func (n *node) setWord(key, value string) (err error) {
	switch key {
	case "mode":
		var mode uint64
		mode, err = strconv.ParseUint(value, 8, 12)
		n.info.Mode = n.info.Mode.Type() | guest.FileMode(uint32(mode))&guest.ModeBits
	case "uid":
		n.info.UID, err = strconv.Atoi(value)
	case "gid":
		n.info.GID, err = strconv.Atoi(value)
	case "mtime":
		n.info.MTime, err = time.Parse(time.RFC3339Nano, value)
	case "encoding":
		if value != "base64" {
			return fmt.Errorf("unknown encoding")
		}
		n.data, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(n.data)), ""))
	case "eol":
		n.data = []byte(strings.TrimSuffix(string(n.data), "\n"))
	default:
		return n.setXattr(strings.TrimPrefix(key, "xattr."), value)
	}
	return err
}

func (n *node) setXattr(name, quoted string) error {
	value, err := strconv.Unquote(`"` + quoted + `"`)
	if err != nil {
		return err
	}
	if n.xattrs == nil {
		n.xattrs = map[string][]byte{}
	}
	n.xattrs[name] = []byte(value)
	return nil
}
