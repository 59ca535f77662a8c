// Package vddktest finds nbdkit's vddk plugin and the stand-in for VMware's library,
// which make vddk-plugin builds, for tests that read through them.
package vddktest

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

// Built is what was built.
type Built struct {
	Plugin  string // nbdkit's plugin
	Library string // folder of what stands for VDDK 8
	Old     string // folder of what stands for VDDK 6.5
}

// Need finds what was built, and skips the test, or fails it if NEED_TOOLS is set,
// where that or nbdkit is not there.
func Need(t testing.TB) Built {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "../../../build/vddk-plugin")
	out, err := proc.Run(t.Context(), "bash", script, "--where")
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out))
	_, err = os.Stat(dir)
	if err == nil {
		_, err = proc.Look("nbdkit")
	}
	switch {
	case err != nil && os.Getenv("NEED_TOOLS") != "":
		t.Fatalf("%v: run make vddk-plugin", err)
	case err != nil:
		t.Skip(err)
	}
	return Built{
		Plugin:  filepath.Join(dir, "nbdkit-vddk-plugin.so"),
		Library: filepath.Join(dir, "fake"),
		Old:     filepath.Join(dir, "old"),
	}
}
