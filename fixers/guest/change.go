package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
)

// Kind is what stands at a name.
type Kind string

// The kinds that a change can meet or leave.
const (
	Absent  Kind = "absent"
	File    Kind = "file"
	Folder  Kind = "folder"
	Symlink Kind = "symlink"
	Other   Kind = "other" // devices, sockets, pipes: never changed
)

// State is what stands at one name of a guest, all of it that matters.
type State struct {
	Kind   Kind   `json:"kind"`
	Size   int64  `json:"size,omitempty"`   // of a file, bytes
	SHA256 string `json:"sha256,omitempty"` // of a file's content
	Target string `json:"target,omitempty"` // of a symbolic link
	Meta   Meta   `json:"meta"`
}

// Same tells whether two states differ in nothing but their times.
func (s State) Same(o State) bool {
	return s.Kind == o.Kind && s.Size == o.Size && s.SHA256 == o.SHA256 && s.Target == o.Target && s.Meta.sameAs(o.Meta)
}

// Change is one edit: the name goes from one state to another. Its inverse is
// a Change too, so undo is the same mechanism run backwards.
type Change struct {
	Fixer  string `json:"fixer"`
	Why    string `json:"why"`
	Path   string `json:"path"` // absolute, free of symbolic links
	Before State  `json:"before"`
	After  State  `json:"after"`
	// Keep is how many bytes of the file before stay as they are; Data follows
	// them. An edit keeps 0, an appended initrd supplement the whole initrd,
	// and undoing that keeps the old size and adds nothing.
	Keep int64  `json:"keep,omitempty"`
	Data []byte `json:"data,omitempty"`
	Diff string `json:"diff,omitempty"` // unified, or a sentence for binary data
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// digests are those of data, and of data with more behind them.
func digests(data, more []byte) (first, both string) {
	h := sha256.New()
	h.Write(data)
	first = hex.EncodeToString(h.Sum(nil))
	h.Write(more)
	return first, hex.EncodeToString(h.Sum(nil))
}

func kindOf(m fs.FileMode) Kind {
	switch {
	case m.IsRegular():
		return File
	case m.IsDir():
		return Folder
	case m&fs.ModeSymlink != 0:
		return Symlink
	default:
		return Other
	}
}

// ModeBits are the bits of a mode that a Meta carries.
const ModeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
