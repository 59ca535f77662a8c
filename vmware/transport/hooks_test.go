package transport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVersionsOfHooks(t *testing.T) {
	for said, want := range map[string]string{
		"govc 0.56.0\n":                            "0.56.0",
		"govc v0.52.0-alpha.0\n":                   "0.52.0",
		"VMware ovftool 4.6.3 (build-24031167)\n":  "4.6.3",
		"VMware ovftool 4.4.3 (build-18663434)\nx": "4.4.3",
		"command not found":                        "",
		"":                                         "",
	} {
		got := ""
		for _, h := range hooks {
			if v, err := versionIn(h.told, []byte(said)); err == nil {
				got = v
			}
		}
		if got != want {
			t.Errorf("versionIn(%q) = %q, want %q", said, got, want)
		}
	}
}

// script makes a program that stands for one of VMware's.
func script(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestHooksAreFound(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	hooks[1].place = filepath.Join(dir, "opt", "ovftool")
	t.Cleanup(func() { hooks[1].place = "/usr/lib/vmware-ovftool/ovftool" })
	none := Hooks(t.Context(), nil)
	if len(none) != 2 || !strings.HasPrefix(none[0].Missing, "govc is not here: put it into PATH") || !strings.HasPrefix(none[1].Missing, "ovftool is not here: install") {
		t.Errorf("Hooks where there are none = %+v", none)
	}
	govc := script(t, filepath.Join(dir, "govc"), `[ "$*" = version ] && echo govc 0.56.0`)
	if err := os.Mkdir(filepath.Join(dir, "opt"), 0o755); err != nil {
		t.Fatal(err)
	}
	placed := script(t, hooks[1].place, `[ "$*" = --version ] && echo "VMware ovftool 4.6.3 (build-24031167)"`)
	want := []Hook{{Name: "govc", Path: govc, Version: "0.56.0"}, {Name: "ovftool", Path: placed, Version: "4.6.3"}}
	if diff := cmp.Diff(want, Hooks(t.Context(), nil)); diff != "" {
		t.Errorf("Hooks (-want +got):\n%s", diff)
	}
	named := script(t, filepath.Join(dir, "mine"), `echo "VMware ovftool 5.0.0 (build-1)"`)
	broken := script(t, filepath.Join(dir, "broken"), `echo "no license" >&2; exit 3`)
	got := Hooks(t.Context(), map[string]string{"ovftool": named, "govc": broken})
	if got[1].Version != "5.0.0" || got[1].Path != named || got[0].Version != "" || got[0].Missing != "govc: exit status 3: no license" {
		t.Errorf("Hooks of named files = %+v", got)
	}
	if got := Hooks(t.Context(), map[string]string{"ovftool": "/nonexistent"})[1]; !strings.Contains(got.Missing, "no such file") {
		t.Errorf("Hooks of a file that is not there = %+v", got)
	}
	script(t, govc, `echo something`)
	if got := Hooks(t.Context(), nil)[0]; got.Missing != `its version cannot be told from "something\n"` {
		t.Errorf("Hooks of another program = %+v", got)
	}
}
