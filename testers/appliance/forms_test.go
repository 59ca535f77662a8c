package appliance

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

// form is a file that make image has written.
func form(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("FORMS")
	if folder == "" {
		t.Skip("FORMS names no folder: run make test-appliance")
	}
	return filepath.Join(folder, name)
}

// TestTheDiskInTheOVAStarts as near to how vSphere has it as QEMU comes: on PVSCSI, with
// a VMXNET3 card. QEMU's UEFI does not start from PVSCSI, so its BIOS does it.
func TestTheDiskInTheOVAStarts(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk.vmdk")
	unpack(t, form(t, "hyper2kvm.ova"), ".vmdk", disk)
	m, ctx := started(t, Spec{Image: disk, Bus: "pvscsi", NIC: "vmxnet3", BIOS: true})
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestTheOVAIsSmall enough to be sent to a site.
func TestTheOVAIsSmall(t *testing.T) {
	const most = 450_000_000
	info, err := os.Stat(form(t, "hyper2kvm.ova"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > most {
		t.Errorf("it has %d bytes, at most %d are to be", info.Size(), most)
	}
	t.Logf("%d bytes", info.Size())
}

// TestTheQCOW2Starts as its domain has it.
func TestTheQCOW2Starts(t *testing.T) {
	m, ctx := started(t, Spec{Image: form(t, "hyper2kvm.qcow2")})
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestVirtV2VReadsTheOVA: its descriptor, its manifest and its disk.
func TestVirtV2VReadsTheOVA(t *testing.T) {
	out, err := proc.Run(t.Context(), "virt-v2v", "-i", "ova", "--print-source", "--", form(t, "hyper2kvm.ova"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"source name: hyper2kvm", "nr vCPUs: 4", "memory: 8589934592", "firmware: uefi"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

// unpack takes the file with an ending out of an archive.
func unpack(t *testing.T, archive, ending, to string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%s: no file with the ending %s: %v", archive, ending, err)
		}
		if strings.HasSuffix(h.Name, ending) {
			w, err := os.Create(to)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(w, r); errors.Join(err, w.Close()) != nil {
				t.Fatal(err)
			}
			return
		}
	}
}
