package update

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// bench is a machine of files: a disk with a partition table, what is in its partitions,
// the ESP's files in a folder, and what the kernel tells of it.
type bench struct {
	*Machine
	t    *testing.T
	dir  string
	esp  esp
	real bool // by UEFI
}

const (
	oldVersion = "0.0-7-gaaaaaaa"
	newVersion = "0.0-8-gbbbbbbb"
)

// keys are made once: it takes a while.
var keys = sync.OnceValues(func() (ours, theirs *rsa.PrivateKey) {
	return key(), key()
})

func key() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

func certificate(t *testing.T, k *rsa.PrivateKey) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hyper2kvm"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rootHash is a version's.
func rootHash(version string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte("root "+version)))
}

// contents are a version's root and hashes.
func contents(version string) (root, verity []byte) {
	return bytes.Repeat([]byte("root "+version+"\n"), 40000), bytes.Repeat([]byte("hash "+version+"\n"), 3000)
}

// newBench is one that runs the old version, with room for another one.
func newBench(t *testing.T) *bench {
	t.Helper()
	if _, err := proc.Look("sfdisk"); err != nil {
		guesttest.Missing(t, err.Error())
	}
	b := &bench{t: t, dir: memory(t), real: true}
	at := func(name string) string { return filepath.Join(b.dir, name) }
	b.Machine = &Machine{Sys: at("sys"), Proc: at("proc"), Dev: at("dev"), Root: "254:0", Release: at("os-release"), Trust: at("update.crt"), Run: at("run")}
	b.Mount = func(_ context.Context, _, folder string, _ bool) error {
		return errors.Join(os.Remove(folder), os.Symlink(at("esp"), folder))
	}
	b.Unmount = os.Remove
	b.esp = esp{at("esp"), func(string) error { return nil }}
	ours, _ := keys()
	b.put("update.crt", certificate(t, ours))
	b.put("os-release", []byte("NAME=\"Debian\"\nIMAGE_VERSION=\""+oldVersion+"\"\n"))
	b.put("proc/cmdline", []byte("roothash="+rootHash(oldVersion)+" console=tty0"))
	b.sysfs("3", "4")
	b.put("sys/firmware/efi/x", nil)
	b.partitions()
	b.put("esp/"+image{version: oldVersion}.name(), uki(oldVersion))
	must(t, Menu(at("esp")))
	return b
}

// memory is a folder that does not wait for a disk each time that something is to be on it.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "hyper2kvm-update-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func (b *bench) put(name string, content []byte) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	must(b.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(b.t, os.WriteFile(path, content, 0o644))
}

// sysfs tells of the disk, and of the partitions that the root is on.
func (b *bench) sysfs(running ...string) {
	b.put("sys/devices/vda/ro", []byte("0\n"))
	must(b.t, os.MkdirAll(filepath.Join(b.dir, "sys/class/block"), 0o755))
	must(b.t, os.Symlink("../../devices/vda", filepath.Join(b.dir, "sys/class/block/vda")))
	for _, n := range running {
		b.put("sys/devices/vda/vda"+n+"/partition", []byte(n+"\n"))
		must(b.t, os.Symlink("../../devices/vda/vda"+n, filepath.Join(b.dir, "sys/class/block/vda"+n)))
		b.put("sys/dev/block/254:0/slaves/vda"+n, nil)
	}
}

func (b *bench) partitions() {
	root, verity := Halves(rootHash(oldVersion))
	script := fmt.Sprintf("label: gpt\nsize=1MiB, type=%s\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649\nsize=4MiB, type=%s, name=hyper2kvm-root, uuid=%s\nsize=1MiB, type=%s, name=hyper2kvm-root-verity, uuid=%s\nsize=4MiB, type=%s, name=_empty\nsize=1MiB, type=%s, name=_empty\nsize=1MiB, name=hyper2kvm-state\n",
		typeESP, TypeRoot, root, TypeVerity, verity, TypeRoot, TypeVerity)
	b.put("dev/vda", nil)
	must(b.t, os.Truncate(filepath.Join(b.dir, "dev/vda"), 20<<20))
	_, err := proc.Command{Name: "sfdisk", Args: []string{"--quiet", filepath.Join(b.dir, "dev/vda")}, Stdin: strings.NewReader(script)}.Run(b.t.Context())
	must(b.t, err)
	rootText, verityText := contents(oldVersion)
	for n, content := range map[int][]byte{3: rootText, 4: verityText, 5: nil, 6: nil} {
		b.put(fmt.Sprintf("dev/vda%d", n), content)
	}
}

// uki is a kernel image as small as can be.
func uki(version string) []byte {
	return portable([][2]string{
		{".osrel", "ID=debian\nIMAGE_VERSION=\"" + version + "\"\n"},
		{".cmdline", "roothash=" + rootHash(version) + " console=ttyS0,115200 loglevel=4\x00"},
		{".linux", "kernel of " + version}, {".initrd", "initrd of " + version},
		{".profile", "ID=main"},
		{".profile", "ID=trial\nTITLE=\"hyper2kvm on trial\"\n"},
		{".cmdline", "roothash=" + rootHash(version) + " console=ttyS0,115200 loglevel=4 hyper2kvm.trial\x00"},
		{".profile", "ID=toram\nTITLE=\"hyper2kvm in memory: the stick's no longer needed\"\n"},
		{".cmdline", "roothash=" + rootHash(version) + " console=ttyS0,115200 loglevel=4 hyper2kvm.toram\x00"},
	})
}

// portable is an executable with sections.
//
// Source: Microsoft, PE Format.
func portable(sections [][2]string) []byte {
	const headers = 1024
	b := make([]byte, headers)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[0x44:], 0x8664)
	binary.LittleEndian.PutUint16(b[0x46:], uint16(len(sections)))
	for n, s := range sections {
		h := b[0x58+40*n:]
		copy(h[:8], s[0])
		raw := (len(s[1]) + 511) / 512 * 512
		binary.LittleEndian.PutUint32(h[8:], uint32(len(s[1])))
		binary.LittleEndian.PutUint32(h[16:], uint32(raw))
		binary.LittleEndian.PutUint32(h[20:], uint32(len(b)))
		b = append(b, append([]byte(s[1]), make([]byte, raw-len(s[1]))...)...)
	}
	return b
}

// packed is an archive of a version.
func packed(t *testing.T, version string, k *rsa.PrivateKey) []byte {
	t.Helper()
	dir := t.TempDir()
	kernel := filepath.Join(dir, "kernel")
	must(t, os.WriteFile(kernel, uki(version), 0o644))
	root, verity := contents(version)
	var out bytes.Buffer
	got, err := Pack(&out, Parts{Kernel: kernel, Root: bytes.NewReader(root), Verity: bytes.NewReader(verity), Key: k, Scratch: dir})
	if err != nil || got != version {
		t.Fatalf("Pack = %q, %v", got, err)
	}
	return out.Bytes()
}

func (b *bench) install(archive []byte) error {
	_, err := b.Install(b.t.Context(), bytes.NewReader(archive), func(int64) {})
	return err
}
