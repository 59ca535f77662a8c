package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPrivateDirIsForItsOwnerAlone(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := PrivateDir()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("mode of %s is %v, %v", dir, info.Mode(), err)
	}
	second, err := PrivateDir()
	if err != nil || second == dir {
		t.Errorf("the second is %s, %v, the first %s", second, err, dir)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("making the second swept the first: %v", err)
	}
}

func TestWhatTheDeadLeftIsSwept(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	dead := deadPid(t)
	swept := fmt.Sprintf("h2k-%d-1", dead)
	kept := []string{
		fmt.Sprintf("h2k-%d-1", os.Getpid()), fmt.Sprintf("h2k-%d-1", os.Getppid()),
		"h2k-nobody-1", "h2k--1", "h2k-0-1", "h2k-1", fmt.Sprintf("other-%d-1", dead),
	}
	for _, name := range append(kept, swept) {
		if err := os.MkdirAll(filepath.Join(tmp, name, "within"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file, link := fmt.Sprintf("h2k-%d-file", dead), fmt.Sprintf("h2k-%d-link", dead)
	if err := os.WriteFile(filepath.Join(tmp, file), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), filepath.Join(tmp, link)); err != nil {
		t.Fatal(err)
	}
	kept = append(kept, file, link)
	if os.Geteuid() == 0 {
		others := fmt.Sprintf("h2k-%d-others", dead)
		if err := errors.Join(os.Mkdir(filepath.Join(tmp, others), 0o700), os.Chown(filepath.Join(tmp, others), 12345, 12345)); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, others)
	}
	if _, err := PrivateDir(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(tmp, swept)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there: %v", swept, err)
	}
	for _, name := range kept {
		if _, err := os.Lstat(filepath.Join(tmp, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestAFolderTooLongForASocketIsRefused(t *testing.T) {
	tmp := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	if dir, err := PrivateDir(); err == nil || !strings.Contains(err.Error(), "set TMPDIR") {
		t.Errorf("PrivateDir = %q, %v", dir, err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// deadPid is the ID of a process that ran and is gone.
func deadPid(t *testing.T) int {
	t.Helper()
	out, err := bash("echo $$").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return number(t, strings.TrimSpace(string(out)))
}
