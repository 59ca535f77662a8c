package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/fixers/guest/guesttest"
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

// TestOneImageGivesTheSameForms whenever they are made, and wherever it lies. That holds for
// the update too, which takes a real image and is not made here.
func TestOneImageGivesTheSameForms(t *testing.T) {
	if _, err := proc.Look("qemu-img"); err != nil {
		guesttest.Missing(t, err.Error())
	}
	raw := make([]byte, 48<<20)
	if _, err := rand.NewChaCha8([32]byte{}).Read(raw[1<<20 : 40<<20]); err != nil {
		t.Fatal(err)
	}
	var sums []string
	for i := range 3 {
		f := forms{version: "v1", raw: filepath.Join(t.TempDir(), "hyper2kvm.raw"), folder: t.TempDir()}
		if err := os.WriteFile(f.raw, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Unix(int64(1_700_000_000+i), 0)
		if err := os.Chtimes(f.raw, then, then); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(f.folder, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, string(text))
	}
	if strings.Count(sums[0], "\n") != 4 || sums[1] != sums[0] || sums[2] != sums[0] {
		t.Errorf("three times, they are\n%s", strings.Join(sums, "\n"))
	}
}
