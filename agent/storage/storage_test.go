package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/agent/api/model"
)

func list(t *testing.T) (List, string) {
	t.Helper()
	root := t.TempDir()
	for _, folder := range []string{"from/web01", "to", "other"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"from/web01/web01.vmx", "other/secret"} {
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"from/out": "../other", "from/absolute": "/etc", "from/in": "web01"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return List{{"from", filepath.Join(root, "from"), model.StorageUseSource}, {"to", filepath.Join(root, "to"), model.StorageUseTarget}}, root
}

func TestAPlaceIsInItsStorage(t *testing.T) {
	l, root := list(t)
	for _, c := range []struct {
		storage, path string
		target        bool
		want, err     string
	}{
		{"from", "web01/web01.vmx", false, "from/web01/web01.vmx", ""},
		{"from", "in/web01.vmx", false, "from/web01/web01.vmx", ""},
		{"to", "web01", true, "to/web01", ""},
		{"from", "out/secret", false, "", "leads out of its storage"},
		{"from", "absolute/passwd", false, "", "leads out of its storage"},
		{"from", "../other/secret", false, "", "is no path in a storage"},
		{"from", "/etc/passwd", false, "", "is no path in a storage"},
		{"from", ".", false, "", "is no path in a storage"},
		{"from", "none.vmx", false, "", "no such file"},
		{"to", "a/b", true, "", "no such file"},
		{"to", "web01", false, "", "for the use as target alone"},
		{"from", "web01", true, "", "for the use as source alone"},
		{"elsewhere", "web01", false, "", `there is no storage "elsewhere"; there are from, to`},
	} {
		got, err := l.Path(model.Place{Storage: c.storage, Path: c.path}, c.target)
		if c.err == "" && (err != nil || got != filepath.Join(root, c.want)) {
			t.Errorf("%s/%s: %s, %v", c.storage, c.path, got, err)
		}
		if c.err != "" && (!errors.Is(err, ErrPlace) || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s/%s: error %v, want %q", c.storage, c.path, err, c.err)
		}
	}
}
