package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/libvirt/libvirttest"
)

// TestTheDomainIsLibvirts, whose firmware does not ask for Microsoft's signature. Where there
// is no KVM the same machine is emulated.
func TestTheDomainIsLibvirts(t *testing.T) {
	uri, file := libvirttest.Daemon(t), filepath.Join(t.TempDir(), "hyper2kvm.xml")
	if err := (forms{}).domain(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	emulated := strings.NewReplacer(`<domain type="kvm">`, `<domain type="qemu">`, `mode="host-passthrough"`, `mode="maximum"`).Replace(string(text))
	if emulated == string(text) {
		t.Fatalf("the domain is no machine of KVM's:\n%s", text)
	}
	if err := os.WriteFile(file, []byte(emulated), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"define", "--validate", file}, {"domxml-to-native", "qemu-argv", "--xml", file}, {"undefine", "--nvram", "hyper2kvm"}} {
		out, err := proc.Run(t.Context(), "virsh", append([]string{"-q", "-c", uri}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		if args[0] == "domxml-to-native" && (!strings.Contains(string(out), "/OVMF_CODE_4M.fd") || strings.Contains(string(out), "/OVMF_VARS_4M.ms.fd")) {
			t.Errorf("libvirt gives it another firmware:\n%s", out)
		}
	}
}
