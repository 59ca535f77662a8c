package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// plainName is a program's name: no path, and nothing that a shell would see as more
// than a word.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// program is the path of a program in the folder that nobody but root, or the agent's
// own user, can have put there or can change: neither it, nor a folder on the way to it.
func (r Runner) program(name string) (string, error) {
	if !plainName.MatchString(name) {
		return "", fmt.Errorf("%.100q is no name of a program: write that of a file in %s", name, r.Folder)
	}
	folder, err := filepath.EvalSymlinks(r.Folder)
	if err != nil {
		return "", fmt.Errorf("the folder of hooks: %w", err)
	}
	path, err := filepath.EvalSymlinks(filepath.Join(folder, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no program %s in %s: put it there", name, r.Folder)
	case err != nil:
		return "", err
	case !strings.HasPrefix(path, folder+"/"):
		return "", fmt.Errorf("%s is a link to %s, out of %s: put the program itself there", name, path, r.Folder)
	}
	if err := runnable(path); err != nil {
		return "", err
	}
	for at := filepath.Dir(path); ; at = filepath.Dir(at) {
		sticky := len(at) < len(folder)
		if err := ownFolder(at, sticky); err != nil || at == "/" {
			return path, err
		}
	}
}

func runnable(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not a program: run chmod +x %[1]s", path)
	}
	return own(path, info)
}

// ownFolder checks a folder. In a sticky one, such as /tmp, others can make names of
// their own, and cannot take ours: above the folder of hooks that will do.
//
// Source: inode(7), "The sticky bit (S_ISVTX) on a directory".
func ownFolder(path string, sticky bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if sticky && info.Mode()&fs.ModeSticky != 0 && info.Sys().(*syscall.Stat_t).Uid == 0 {
		return nil
	}
	return own(path, info)
}

func own(path string, info fs.FileInfo) error {
	uid := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case uid != 0 && uid != uint32(os.Geteuid()):
		return fmt.Errorf("%s is not root's: run chown root %[1]s, if you know what is in it", path)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others can write to %s: run chmod go-w %[1]s, if you know what is in it", path)
	}
	return nil
}
