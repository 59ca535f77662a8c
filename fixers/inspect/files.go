package inspect

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"hyper2kvm/fixers/guest"
)

// Bounds on what is read of a guest. They are far above what real guests have.
const (
	maxConfig = guest.MaxText // a configuration file
	maxList   = 64 << 20      // a package list, a module index, a program, a kernel
	maxFiles  = 1000          // files of one kind in one folder, and records made of them
	maxTotal  = 4 << 30       // all of these together
)

// files reads a guest's mounted files. What is absent is absent; what cannot be
// read is noted as a problem, and inspection goes on without it.
type files struct {
	guest.Reader
	view     *guest.View
	total    int64 // bytes read so far
	problems []Found
	plan     *netplanConfig // once it is read
	nm       []UnitLine     // NetworkManager's settings, once they are read
}

func openFiles(r guest.Reader) *files {
	return &files{Reader: r, view: guest.NewView(r)}
}

// problem notes what could not be had; of too many problems the first.
func (t *files) problem(source, value string) {
	p := Found{Value: value, Source: source}
	if len(t.problems) < maxFiles && !slices.Contains(t.problems, p) {
		t.problems = append(t.problems, p)
	}
}

// note tells whether err is nil; an absent file is no problem.
func (t *files) note(source string, err error) bool {
	if err != nil && !absent(err) {
		t.problem(source, err.Error())
	}
	return err == nil
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// read is a file's content; not ok when it is absent or cannot be read.
func (t *files) read(name string, limit int64) (data []byte, ok bool) {
	if t.total > maxTotal {
		t.problem(name, "not read, for more was read of this guest than expected")
		return nil, false
	}
	data, err := t.view.ReadFile(name, limit)
	t.total += int64(len(data))
	return data, t.note(name, err)
}

// lines are a configuration file's lines without their ends.
func (t *files) lines(name string) []string {
	data, ok := t.read(name, maxConfig)
	if !ok {
		return nil
	}
	return splitLines(data)
}

// exists tells whether name leads to something.
func (t *files) exists(name string) bool {
	_, err := t.view.Stat(name)
	return t.note(name, err)
}

// isFile tells whether name leads to a regular file.
func (t *files) isFile(name string) bool {
	info, err := t.view.Stat(name)
	return t.note(name, err) && info.Mode.IsRegular()
}

// stands tells whether something is at name, be it a dangling link.
func (t *files) stands(name string) bool {
	_, err := t.Lstat(name)
	return t.note(name, err)
}

// first is the first of names that leads to something, or "".
func (t *files) first(names ...string) string {
	for _, n := range names {
		if t.exists(n) {
			return n
		}
	}
	return ""
}

// resolve is name without links; name itself when it cannot be followed.
func (t *files) resolve(name string) string {
	at, err := t.view.Resolve(name)
	if !t.note(name, err) {
		return name
	}
	return at
}

// glob lists the names that match pattern in its last element and in whole
// folder elements, sorted; at most maxFiles of them.
func (t *files) glob(pattern string) []string {
	found := []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		var next []string
		for _, dir := range found {
			next = append(next, t.match(dir, part)...)
		}
		if found = next; len(found) > maxFiles {
			t.problem(pattern, "more files than expected, the rest is not read")
			found = found[:maxFiles]
		}
	}
	return found
}

func (t *files) match(dir, part string) []string {
	if !strings.ContainsAny(part, `*?[`) {
		if name := path.Join(dir, part); t.stands(name) {
			return []string{name}
		}
		return nil
	}
	list, err := t.ReadDir(dir)
	if !t.note(dir, err) {
		return nil
	}
	var found []string
	for _, info := range list {
		if ok, err := path.Match(part, info.Name); err == nil && ok && safeName(info.Name) {
			found = append(found, path.Join(dir, info.Name))
		}
	}
	slices.Sort(found)
	return found
}

// safeName refuses what no folder can hold, from engines that pass on what a
// damaged file system says.
func safeName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

func splitLines(data []byte) []string {
	lines := strings.Split(string(data), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(l, "\r")
	}
	return lines
}

// assignment splits a shell assignment, quotes removed: KEY="value".
func assignment(line string) (key, value string, ok bool) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") {
		return "", "", false
	}
	key, value, ok = strings.Cut(line, "=")
	return key, unquote(strings.TrimSpace(value)), ok
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
