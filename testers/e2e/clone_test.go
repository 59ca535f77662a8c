package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/proc"
)

// A linked clone of the sample guest, whose own disk holds but another host name,
// is proved under that name by a rehearsal that reads through the whole chain.
func TestALinkedCloneIsProvedByARehearsal(t *testing.T) {
	if os.Getenv("NEED_VMS") != "matrix" {
		t.Skip("one of many guests: set NEED_VMS=matrix")
	}
	g := guestUnderTest(t)
	dir := t.TempDir()
	clone := filepath.Join(dir, "clone01.vmdk")
	if _, err := proc.Run(t.Context(), "qemu-img", "create", "-q", "-f", "vmdk", "-b", g.VMDK, "-F", "vmdk", clone); err != nil {
		t.Fatal(err)
	}
	rename(t, clone, "clone01")
	text, err := os.ReadFile(g.VMX)
	if err != nil {
		t.Fatal(err)
	}
	vmx := filepath.Join(dir, "clone01.vmx")
	if err := os.WriteFile(vmx, []byte(strings.ReplaceAll(string(text), filepath.Base(g.VMDK), filepath.Base(clone))), 0o600); err != nil {
		t.Fatal(err)
	}
	before := digests(t, []string{g.VMDK, clone})
	r, err := run(t, filepath.Join(t.TempDir(), "clone01"), pipeline.Options{Source: vmx, AllowFolders: []string{filepath.Dir(g.VMDK)},
		Skip: map[string]string{"convert": "this is a rehearsal"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Expect.Hostname != "clone01" || len(r.Machine.Disks[0].Parents) != 1 {
		t.Errorf("the host name asked for is %q, the disk %+v", r.Expect.Hostname, r.Machine.Disks[0])
	}
	if after := digests(t, []string{g.VMDK, clone}); after[0] != before[0] || after[1] != before[1] {
		t.Error("the source was written")
	}
}

// rename writes another host name into a guest's disk, in place.
func rename(t *testing.T, path, name string) {
	t.Helper()
	dir := t.TempDir()
	raw, hostname, commands := filepath.Join(dir, "raw"), filepath.Join(dir, "hostname"), filepath.Join(dir, "commands")
	for file, text := range map[string]string{raw: "", hostname: name + "\n", commands: "rm /etc/hostname\nwrite " + hostname + " /etc/hostname\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "qmp")
	server, err := proc.Start(t.Context(), proc.Service{Socket: socket, Command: proc.Command{Name: "qemu-storage-daemon", Args: []string{
		"--blockdev", "driver=vmdk,node-name=disk,file.driver=file,file.filename=" + path,
		"--export", "type=fuse,id=raw,node-name=disk,writable=on,mountpoint=" + raw,
		"--chardev", "socket,id=qmp,server=on,wait=off,path=" + socket, "--monitor", "chardev=qmp"}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = (proc.Command{Name: "debugfs", Args: []string{"-w", "-f", commands, raw + "?offset=1048576"}}).Run(t.Context())
	if stopped := server.Stop(); err != nil || stopped != nil {
		t.Fatal(err, stopped)
	}
}
