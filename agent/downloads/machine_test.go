package downloads

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/seal"
	"hyper2kvm/agent/storage"
	"hyper2kvm/agent/update"
)

const (
	rootHash = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"
	typeData = gpt.LinuxFilesystem
)

// made is an appliance's disk, as a file: what starts it, and what it has kept.
func made(t *testing.T, path string) (parts []*gpt.Partition) {
	t.Helper()
	add := func(kind gpt.Type, name, id string, sizeMiB uint64) {
		at := uint64(mib / sector)
		if len(parts) > 0 {
			at = parts[len(parts)-1].End + 1
		}
		parts = append(parts, &gpt.Partition{Index: len(parts) + 1, Start: at, End: at + sizeMiB*mib/sector - 1, Size: sizeMiB * mib, Type: kind, Name: name, GUID: id, Attributes: uint64(len(parts)%2) << 60})
	}
	root, verity := update.Halves(rootHash)
	add(typeESP, "esp", "11111111-2222-4333-8444-555555555501", 3)
	add(typeBIOS, "bios", "11111111-2222-4333-8444-555555555502", 1)
	add(typeRoot, "hyper2kvm-root", root, 4)
	add(typeHashes, "hyper2kvm-root-verity", verity, 1)
	add(typeRoot, "another version", "11111111-2222-4333-8444-555555555505", 4)
	add(typeData, "hyper2kvm-state", "11111111-2222-4333-8444-555555555506", 2)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 20 * mib
	content := make([]byte, size)
	rand.Read(content)
	clear(content[446:mib])
	clear(content[mib+4096 : 3*mib]) // a hole in the ESP
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	table := gpt.Table{Partitions: parts, LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true, GUID: "11111111-2222-4333-8444-555555555500"}
	if err := table.Write(f, size); err != nil {
		t.Fatal(err)
	}
	return parts
}

// booted is a machine that runs the appliance on such a disk.
func booted(t *testing.T) Machine {
	t.Helper()
	root := t.TempDir()
	m := Machine{filepath.Join(root, "sys"), filepath.Join(root, "dev"), filepath.Join(root, "proc")}
	for _, folder := range []string{"sys/class/block", "sys/devices/vda", "dev/disk/by-partuuid", "proc"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	parts := made(t, filepath.Join(m.Dev, "vda"))
	write(t, filepath.Join(m.Proc, "cmdline"), "quiet roothash="+rootHash+" console=ttyS0\n")
	disk := read(t, filepath.Join(m.Dev, "vda"))
	for _, p := range parts {
		name := fmt.Sprintf("vda%d", p.Index)
		at := filepath.Join(m.Sys, "devices/vda", name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(at, "partition"), fmt.Sprintf("%d\n", p.Index))
		link(t, at, filepath.Join(m.Sys, "class/block", name))
		write(t, filepath.Join(m.Dev, name), string(disk[start(p):start(p)+length(p)]))
		link(t, "../../"+name, filepath.Join(m.Dev, "disk/by-partuuid", strings.ToLower(p.GUID)))
	}
	return m
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// starter marks what the appliance starts from, when that was copied.
type starter struct{}

const onlyOne = "one version alone"

func (starter) Copied(_ context.Context, file string, copy func() error) error {
	if err := copy(); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(onlyOne)
	return errors.Join(err, f.Close())
}

// keeper is one with a storage called vmware, at a time that a test says.
func keeper(t *testing.T, m Machine) (*Keeper, *time.Time) {
	t.Helper()
	folder, now := t.TempDir(), time.Now()
	sealer, err := seal.Load(filepath.Join(folder, "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "vmware"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := Config{Folder: filepath.Join(folder, "downloads"), Sealer: sealer, Machine: m, Starter: starter{}, Version: "v1", Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Storages: storage.List{{Name: "vmware", Path: filepath.Join(folder, "vmware"), Use: model.StorageUseSource}}}
	return opened(t, c), &now
}

func opened(t *testing.T, c Config) *Keeper {
	t.Helper()
	k, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// inStorage is where a file lies in the storage, on this machine.
func inStorage(k *Keeper, name string) string { return filepath.Join(k.Storages.Now()[0].Path, name) }

func place(name string) *model.Place { return &model.Place{Storage: "vmware", Path: name} }

// settings of a new appliance, one of them secret.
func settings() map[string]string {
	return map[string]string{"hostname": "mover2.example.org", "address": "192.0.2.12/24", "gateway": "192.0.2.1", "ssh-key": sshKey}
}

const sshKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJg8QbJ3H9xg2v1v6p0k0yG0c2mXo3tS0q3o3i0fJk8R marta"

// done is a download when it is ready, or has failed.
func done(t *testing.T, k *Keeper, r Request) model.Download {
	t.Helper()
	d, err := k.Make(r)
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(2 * time.Minute); d.State == model.DownloadStatePreparing; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it is not ready")
		}
		if d, err = k.Find(d.ID); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// ready is one that is, and all of its bytes.
func ready(t *testing.T, k *Keeper, r Request) (model.Download, []byte) {
	t.Helper()
	d := done(t, k, r)
	if d.State != model.DownloadStateReady {
		t.Fatalf("it is %s: %s", d.State, d.Detail)
	}
	return d, fetched(t, k, d)
}
