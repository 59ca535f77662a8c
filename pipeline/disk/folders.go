package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// ErrChain is a disk whose other files cannot be taken as they are.
var ErrChain = errors.New("disk depends on other files")

// AllowFlag is the option by which the operator allows a folder.
const AllowFlag = "--allow-folder"

// folders are where a file's other files may lie, by their real names: its own
// folder first, then those that the operator allowed. A name that leads out of
// them would make a stranger's file a part of the guest's disk.
type folders []string

// foldersOf are the folders for the other files of a file.
func foldersOf(file string, allowed []string) (folders, error) {
	list := folders{filepath.Dir(file)}
	for _, a := range allowed {
		real, err := filepath.EvalSymlinks(a)
		if err == nil {
			real, err = filepath.Abs(real)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", AllowFlag, a, err)
		}
		list = append(list, real)
	}
	return list, nil
}

// Find is the real name of the file that a name in a file of VMware's stands
// for: in that file's folder, or below, or in the folders that are allowed.
func Find(name, file string, allowed []string) (string, error) {
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return "", err
	}
	f, err := foldersOf(file, allowed)
	if err != nil {
		return "", err
	}
	return f.find(name, file)
}

// find is the real name of the file that a name of VMware's stands for. The
// name may be a path of the machine that wrote it, even of Windows: where that
// leads nowhere, its last part is looked for in each of the folders. The file
// self, in which the name stands, is not what is looked for.
func (f folders) find(name, self string) (string, error) {
	if written := f.written(name); written != "" {
		real, err := existing(written)
		if err == nil && real != "" && !f.hold(real) {
			err = fmt.Errorf("%w: %s is outside of %s; if it is meant, give %s %s", ErrChain, real, f[0], AllowFlag, shellWord(filepath.Dir(real)))
		}
		if err != nil || real != "" {
			return real, err
		}
	}
	for _, folder := range f {
		real, err := existing(filepath.Join(folder, lastPart(name)))
		if err == nil && real == "" {
			real, err = alike(folder, lastPart(name))
		}
		if err != nil {
			return "", err
		}
		if real != "" && real != self && f.hold(real) {
			return real, nil
		}
	}
	return "", fmt.Errorf("%w: %s does not exist; put it into %s, or say with %s DIR in which folder it is", ErrChain, lastPart(name), f[0], AllowFlag)
}

// written is the path that a name is on this system; "" for none.
func (f folders) written(name string) string {
	slashed := slashes(name)
	switch {
	case drive.MatchString(slashed): // of Windows
		return ""
	case path.IsAbs(slashed):
		return filepath.Clean(slashed)
	}
	return filepath.Join(f[0], slashed)
}

// existing is the real name of a file, or "" if there is none.
func existing(name string) (string, error) {
	real, err := filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%w: %s is not a file", ErrChain, real)
	case !utf8.ValidString(real):
		return "", fmt.Errorf("%w: the name %q is not UTF-8, so the programs that open it would look for another: rename it", ErrChain, real)
	}
	return real, nil
}

// alike finds the one file in a folder that Windows or macOS would take for the
// one named: the first folds case, and the second composes letters otherwise.
func alike(folder, name string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range entries {
		if strings.EqualFold(norm.NFC.String(e.Name()), norm.NFC.String(name)) {
			found = append(found, e.Name())
		}
	}
	if len(found) != 1 {
		return "", nil
	}
	return existing(filepath.Join(folder, found[0]))
}

// hold tells whether a real path is in one of the folders or below.
func (f folders) hold(real string) bool {
	for _, folder := range f {
		if rest, err := filepath.Rel(folder, real); err == nil && filepath.IsLocal(rest) {
			return true
		}
	}
	return false
}

var drive = regexp.MustCompile(`^[A-Za-z]:`)

// slashes is a path with the separators of this system: Windows' is no part of
// a name there, and VMware gives no file such a name here.
func slashes(name string) string { return strings.ReplaceAll(name, `\`, "/") }

func lastPart(name string) string { return path.Base(drive.ReplaceAllString(slashes(name), "")) }

var plainWord = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// shellWord is a path as the operator has to write it on a command line.
func shellWord(path string) string {
	if plainWord.MatchString(path) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
