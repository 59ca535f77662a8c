package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

func TestAnImageOfAShallowCloneIsRefused(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	clone := shallow(t, repository(t, "version", "image"))
	_, err := proc.Run(t.Context(), "bash", filepath.Join(clone, "build/image"))
	if err == nil || !strings.Contains(err.Error(), "this clone lacks commits") || !strings.Contains(err.Error(), "git fetch --unshallow") {
		t.Errorf("build/image: %v", err)
	}
}

// TestTheNextVersionsProgramIsNotThisOnes: its Makefile only writes down the version, and
// what comes next ends it.
func TestTheNextVersionsProgramIsNotThisOnes(t *testing.T) {
	guesttest.Need(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	tree := repository(t, "version", "image")
	for name, text := range map[string]string{
		"Makefile":          ".PHONY: build\nbuild:\n\t@mkdir -p $$(dirname $(PROGRAM)); echo $(VERSION) >$(PROGRAM)\n",
		"build/vddk-plugin": "#!/bin/sh\nexit 1\n",
		"bin/hyper2kvm":     "this version's",
	} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	next := printed(t, tree, "--next")
	if _, err := proc.Run(t.Context(), "bash", filepath.Join(tree, "build/image"), "--next"); err == nil {
		t.Error("build/image --next goes on without a plugin")
	}
	for name, want := range map[string]string{"bin/hyper2kvm": "this version's", "bin/next/hyper2kvm": next + "\n"} {
		if text, err := os.ReadFile(filepath.Join(tree, name)); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v, want %q", name, text, err, want)
		}
	}
}
