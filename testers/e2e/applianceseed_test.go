package e2e

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/appliance"
)

// TestAnApplianceIsWhatItsSeedSays: on a CD and on a disk, to an appliance that was
// never asked anything, its name, its network, its certificate, its first admin, and who
// has a shell.
func TestAnApplianceIsWhatItsSeedSays(t *testing.T) {
	image := applianceImage(t)
	const static = "10.0.2.77" // DHCP would give another
	for format, device := range map[string]string{firstboot.ISO: "ide-cd,drive=seed,bus=ide.1", firstboot.FAT: "virtio-blk-pci,drive=seed"} {
		t.Run(format, func(t *testing.T) {
			folder := t.TempDir()
			certificate, key := pair(t, folder, "mover1")
			admin, adminKey := pair(t, folder, "marta")
			public, shell := sshKey(t)
			s, err := firstboot.NewSeed(map[string]string{"ssh-key": public, "hostname": "mover1", "address": static + "/24", "gateway": "10.0.2.2",
				"certificate": read(t, certificate), "key": read(t, key), "trust": read(t, admin)})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(folder, "seed")
			if err := s.Write(t.Context(), path, format, false); err != nil {
				t.Fatal(err)
			}
			home := filepath.Join(folder, "home")
			if err := os.Mkdir(home, 0o700); err != nil {
				t.Fatal(err)
			}
			ctx := within(t, 10*time.Minute)
			m, err := appliance.Start(ctx, appliance.Spec{Home: home, Image: image, Address: static, Ports: []int{22}, Options: []string{"-drive", "if=none,id=seed,format=raw,readonly=on,file=" + path, "-device", device}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Pull(); err != nil {
					t.Log(err)
				}
			})
			if err := m.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode([]byte(read(t, certificate)))
			c, err := client.New(m.URL(), client.Options{Fingerprint: fmt.Sprintf("%x", sha256.Sum256(block.Bytes)), Certificate: admin, Key: adminKey})
			if err != nil {
				t.Fatal(err)
			}
			if all, err := c.Appliances(ctx); err != nil || len(all) != 1 || all[0].Name != "mover1" {
				t.Errorf("appliances: %+v, %v", all, err)
			}
			if _, err := c.Users(ctx); err != nil { // which admins alone may see
				t.Error(err)
			}
			if said := over(t, m.Address(22), shell, "hostname; ls $LIBGUESTFS_PATH"); said != "mover1\nREADME.fixed\ninitrd\nkernel\nroot\n" {
				t.Errorf("over SSH it says %q", said)
			}
		})
	}
}

// sshKey makes a key, and the line that lets its holder in.
func sshKey(t *testing.T) (public string, private ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if private, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(private.PublicKey())), private
}

// over runs a command over SSH, as root. Whose key the host has is not asked.
func over(t *testing.T, address string, key ssh.Signer, command string) string {
	t.Helper()
	config := ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Minute}
	c, err := ssh.Dial("tcp", address, &config)
	for limit := time.Now().Add(2 * time.Minute); err != nil && time.Now().Before(limit); time.Sleep(time.Second) { // it makes its keys first
		c, err = ssh.Dial("tcp", address, &config)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// pair makes a key and a certificate of its own, PEM, in files.
func pair(t *testing.T, folder, name string) (certificate, key string) {
	t.Helper()
	certificate, key = filepath.Join(folder, name+".pem"), filepath.Join(folder, name+".key")
	if _, err := proc.Run(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2", "-subj", "/CN="+name, "-keyout", key, "-out", certificate); err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
