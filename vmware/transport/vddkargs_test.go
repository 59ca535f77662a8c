package transport

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVDDKArguments(t *testing.T) {
	always := []string{"--readonly", "--foreground", "--exit-with-parent", "--unix", "/run/x/nbd.sock",
		"--verbose", "-D", "nbdkit.backend.datapath=0", "-D", "vddk.datapath=0"}
	for name, c := range map[string]struct {
		access Access
		disk   Disk
		want   []string
	}{
		"a VM that is off": {
			Access{Server: &url.URL{Scheme: "https", Host: "vc.example"}, Thumbprint: "AA:BB", VDDK: "/lib"},
			Disk{VM: "vm-42", Files: []string{"[DS 1] web/web.vmdk", "[DS 1] base/base.vmdk"}},
			[]string{"vddk", "libdir=/lib", "server=vc.example", "user=ann", "password=+/run/x/password", "thumbprint=AA:BB", "vm=moref=vm-42", "file=[DS 1] web/web.vmdk"},
		},
		"a snapshot, by SAN, another port, a plugin by path": {
			Access{Server: &url.URL{Scheme: "https", Host: "[2001:db8::1]:8443"}, Thumbprint: "AA:BB", VDDK: "/lib", VDDKPlugin: "/x/p.so", VDDKModes: "san:nbdssl"},
			Disk{VM: "7", Snapshot: "snapshot-9", Files: []string{"[DS] ünï +'\"/a b.vmdk"}},
			[]string{"/x/p.so", "libdir=/lib", "server=2001:db8::1", "user=ann", "password=+/run/x/password", "thumbprint=AA:BB", "vm=moref=7", "file=[DS] ünï +'\"/a b.vmdk", "port=8443", "snapshot=snapshot-9", "transports=san:nbdssl"},
		},
	} {
		if diff := cmp.Diff(append(append([]string{}, always...), c.want...), vddkArgs(c.access, c.disk, "ann", "/run/x")); diff != "" {
			t.Errorf("%s: vddkArgs (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheProbeIsRead(t *testing.T) {
	for file, want := range map[string]VDDKLibrary{
		"dump-8.txt":    {Version: "8", Plugin: "1.42.3", Mapped: true, Modes: []string{"file", "san", "hotadd", "nbdssl", "nbd"}},
		"dump-6.5.txt":  {Version: "6", Plugin: "1.42.3", Modes: []string{"file", "san", "hotadd", "nbdssl", "nbd"}},
		"dump-none.txt": {Plugin: "1.42.3"},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", "vddk", file))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, parseProbe(string(text))); diff != "" {
			t.Errorf("parseProbe(%s) (-want +got):\n%s", file, diff)
		}
	}
	exact := "vddk_library_version=8\nvddk_dll=/opt/vmware-vix-disklib-distrib/lib64/libvixDiskLib.so.8.0.3\n"
	if got := parseProbe(exact).Version; got != "8.0.3" {
		t.Errorf("parseProbe = version %q, want what the file's name says", got)
	}
}

func TestTheLibraryIsFoundInItsFolder(t *testing.T) {
	for name, c := range map[string]struct {
		file, folder, want string
	}{
		"as it unpacks":            {"vmware-vix-disklib-distrib/lib64/libvixDiskLib.so.8.0.3", distrib, ""},
		"the unpacked root":        {"lib64/libvixDiskLib.so.7", "", ""},
		"of the next great number": {"lib64/libvixDiskLib.so.9.0.0", "", "loads versions 6.5 to 8 of VMware's library, and this is 9.0.0"},
		"of the last century":      {"lib64/libvixDiskLib.so.5", "", "and this is 5"},
		"not there":                {"lib32/libvixDiskLib.so.8", "", "has no lib64/libvixDiskLib.so.N"},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, c.file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, c.file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(t.TempDir(), "vddk")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		got, err := vddkFolder(link)
		if c.want == "" && (err != nil || got != filepath.Join(dir, c.folder)) {
			t.Errorf("%s: vddkFolder = %q, %v", name, got, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: vddkFolder = %v, want %q", name, err, c.want)
		}
	}
}
