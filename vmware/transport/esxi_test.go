package transport

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"hyper2kvm/vmware/transport/esxitest"
)

// esxi is a host whose disks tests make up.
type esxi struct{ *esxitest.Host }

func newESXi(t testing.TB) *esxi { return &esxi{esxitest.Start(t)} }

// access logs in with the password and knows the host's key.
func (e *esxi) access(t testing.TB) *SSH {
	t.Helper()
	return &SSH{User: "root", Port: e.Address.Port, Password: func() string { return password }, HostKeys: e.Known(t, e.Key.PublicKey())}
}

// second gives the host another key, which clients like better, and tells the first.
func (e *esxi) second(t testing.TB) ssh.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	e.Change(func(c *ssh.ServerConfig) { c.AddHostKey(signer) })
	return e.Key.PublicKey()
}

// disk puts a flat disk on a datastore.
func (e *esxi) disk(t testing.TB, datastore, name string, all []byte) Disk {
	t.Helper()
	folder := filepath.Join(e.Root, "vmfs", "volumes", datastore, name)
	sparse(t, filepath.Join(folder, name+"-flat.vmdk"), all)
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\nRW %d VMFS \"%s-flat.vmdk\"\n", len(all)/sector, name)
	if err := os.WriteFile(filepath.Join(folder, name+".vmdk"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Disk{VM: "7", Host: e.Address.IP.String(), Files: []string{fmt.Sprintf("[%s] %s/%s.vmdk", datastore, name, name)}, Size: int64(len(all))}
}

// keyFile is a file with a private key.
func keyFile(t testing.TB, key ed25519.PrivateKey, passphrase string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
