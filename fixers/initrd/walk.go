package initrd

import (
	"io/fs"
	"slices"
	"strings"
)

// place is where a name leads.
type place struct {
	path    string // with symlinks resolved
	parent  *node  // folder that holds it, nil for the root and below a missing folder
	base    string
	node    *node // nil when it does not exist
	missing int   // how many of its folders do not exist
}

func (p place) file() File {
	n := p.node
	mode := fs.FileMode(n.mode & 0o777)
	switch n.mode & typeMask {
	case typeDir:
		mode |= fs.ModeDir
	case typeLink:
		mode |= fs.ModeSymlink
	case typeReg:
	default:
		mode |= fs.ModeIrregular
	}
	return File{Path: p.path, Mode: mode, Size: n.size, Target: n.target}
}

// walk resolves a name; the last symlink only when follow is set. It reports
// false where the kernel would say ELOOP, ENOTDIR or ENAMETOOLONG.
func (t *tree) walk(name string, follow bool) (place, bool) {
	at, _, ok := t.steps(name, follow)
	return at, ok
}

// unpacking is walk while members are unpacked.
func (t *tree) unpacking(name string) (place, bool) {
	at, steps, ok := t.steps(name, false)
	t.taken += steps
	return at, ok
}

// steps is walk, and tells how many components were looked at.
func (t *tree) steps(name string, follow bool) (_ place, steps int, ok bool) {
	todo := components(name)
	var done []string
	at := []*node{t.root}
	for hops := 0; len(todo) > 0; steps++ {
		if steps > maxSteps {
			return place{}, steps, false
		}
		part := todo[0]
		todo = todo[1:]
		here := at[len(at)-1]
		switch {
		case len(part) > nameMax:
			return place{}, steps, false
		case part == "..":
			done, at = done[:max(0, len(done)-1)], at[:max(1, len(at)-1)]
			continue
		case here != nil && !here.is(typeDir):
			return place{}, steps, false
		}
		var child *node
		if here != nil {
			child = here.children[part]
		}
		if child != nil && child.is(typeLink) && (follow || len(todo) > 0) {
			if hops++; hops > maxHops {
				return place{}, steps, false
			}
			if strings.HasPrefix(child.target, "/") {
				done, at = nil, at[:1]
			}
			todo = append(components(child.target), todo...)
			continue
		}
		done, at = append(done, part), append(at, child)
	}
	return placeOf(done, at), steps, true
}

func placeOf(done []string, at []*node) place {
	p := place{path: strings.Join(done, "/"), node: at[len(at)-1]}
	if len(done) == 0 {
		return p
	}
	p.base, p.parent = done[len(done)-1], at[len(at)-2]
	for _, n := range at[:len(at)-1] {
		if n == nil {
			p.missing++
		}
	}
	return p
}

func components(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(c string) bool { return c == "" || c == "." })
}
