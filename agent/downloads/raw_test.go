package downloads

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/firstboot"
	"hyper2kvm/pipeline/proc"
)

// fetched is all of a download. Parts of it, from anywhere, are the same.
func fetched(t *testing.T, k *Keeper, d model.Download) []byte {
	t.Helper()
	_, c, err := k.Content(d.ID, d.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := io.ReadAll(c)
	if err != nil || int64(len(all)) != d.Size || c.Size() != d.Size {
		t.Fatalf("it has %d bytes of %d, %v", len(all), d.Size, err)
	}
	for range 200 {
		at := rand.N(d.Size)
		b := make([]byte, rand.N(min(3*mib, d.Size-at))+1)
		if n, err := c.ReadAt(b, at); n != len(b) && !errors.Is(err, io.EOF) || !bytes.Equal(b[:n], all[at:at+int64(n)]) {
			t.Fatalf("%d bytes at %d are others: %d, %v", len(b), at, n, err)
		}
	}
	return all
}

func TestPiecesAreTheFileThatTheyMake(t *testing.T) {
	text := []byte("0123456789")
	p := newPieces(piece{bytes.NewReader(text), 2, 3}, piece{nil, 0, 2}, piece{bytes.NewReader(text), 0, 0}, piece{bytes.NewReader(text), 9, 1})
	want := []byte("234\x00\x009")
	for at := range len(want) + 1 {
		for n := range len(want) + 2 {
			b := bytes.Repeat([]byte("x"), n)
			got, err := p.ReadAt(b, int64(at))
			if there := min(n, len(want)-at); got != there || (err != nil) != (n > there) || !bytes.Equal(b[:got], want[at:at+got]) {
				t.Errorf("%d bytes at %d: %q, %v", n, at, b[:got], err)
			}
		}
	}
	short := newPieces(piece{bytes.NewReader(text), 8, 3})
	if _, err := short.ReadAt(make([]byte, 3), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of a source that is cut short: %v", err)
	}
}

// TestARawImageIsTheAppliance: its partitions where they were, without what it has kept
// and the root of another version, and behind them the settings.
func TestARawImageIsTheAppliance(t *testing.T) {
	m := booted(t)
	k, _ := keeper(t, m)
	disk := read(t, filepath.Join(m.Dev, "vda"))
	write(t, inStorage(k, "hyper2kvm.raw"), string(disk))
	for _, c := range []struct {
		name  string
		base  *model.Place
		roots []string
	}{
		{"of its own disk", nil, []string{"hyper2kvm-root"}},
		{"of a file", place("hyper2kvm.raw"), []string{"hyper2kvm-root", "another version"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, all := ready(t, k, Request{Form: model.DownloadFormRaw, Values: settings(), Base: c.base})
			if d.Name != "mover2.raw" {
				t.Errorf("it is called %s", d.Name)
			}
			path := filepath.Join(t.TempDir(), "image.raw")
			write(t, path, string(all))
			parts, roots := table(t, path), []string(nil)
			for _, p := range parts[:len(parts)-1] {
				want := bytes.Clone(disk[start(p) : start(p)+length(p)])
				if c.base == nil && p.Type == typeESP {
					copy(want, onlyOne)
				}
				if !bytes.Equal(all[start(p):start(p)+length(p)], want) {
					t.Errorf("the partition %s has other contents", p.Name)
				}
				if p.Type == typeRoot {
					roots = append(roots, p.Name)
				}
				if p.Type == typeData {
					t.Error("what the appliance has kept is in it")
				}
			}
			if strings.Join(roots, ",") != strings.Join(c.roots, ",") || !bytes.Equal(all[:bootCode], disk[:bootCode]) {
				t.Errorf("roots are %q, or its boot code is another", roots)
			}
			seeded(t, path, parts[len(parts)-1], all)
			verified(t, path)
		})
	}
}

func table(t *testing.T, path string) []*gpt.Partition {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(file.New(f, true), sector, sector)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Verify(file.New(f, true), uint64(info.Size())); err != nil {
		t.Error(err)
	}
	return table.Partitions
}

// seeded reads a seed volume as first boot does, on a machine that has it as a partition.
func seeded(t *testing.T, image string, p *gpt.Partition, all []byte) {
	t.Helper()
	if p.Name != seedPartition || p.Type != gpt.MicrosoftBasicData {
		t.Errorf("the last partition is %s, %s", p.Name, p.Type)
	}
	root := t.TempDir()
	for _, folder := range []string{"dev", "sys/block/vda/vda5", "run", "etc", "proc"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link(t, image, filepath.Join(root, "dev/vda"))
	write(t, filepath.Join(root, "dev/vda5"), string(all[start(p):start(p)+length(p)]))
	write(t, filepath.Join(root, "sys/block/vda/vda5/partition"), "5\n")
	write(t, filepath.Join(root, "proc/cmdline"), "quiet\n")
	r, err := firstboot.Boot{Root: root}.Run(t.Context())
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("problems: %q, %v", r.Problems, err)
	}
	if got := string(read(t, filepath.Join(root, "etc/hostname"))); got != "mover2.example.org\n" {
		t.Errorf("its name is %q", got)
	}
	if got := string(read(t, filepath.Join(root, "etc/systemd/network/50-hyper2kvm.network"))); !strings.Contains(got, "192.0.2.12/24") {
		t.Errorf("its network is %s", got)
	}
}

// verified asks sfdisk for its opinion of a partition table.
func verified(t *testing.T, path string) {
	t.Helper()
	if _, err := proc.Look("sfdisk"); err != nil {
		if os.Getenv("NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Log(err)
		return
	}
	out, err := proc.Run(t.Context(), "sfdisk", "--verify", "--", path)
	if err != nil || !strings.Contains(string(out), "No errors detected") {
		t.Errorf("%s, %v", out, err)
	}
}

// TestADownloadStaysWhatItIs though the appliance writes to what its firmware starts from.
func TestADownloadStaysWhatItIs(t *testing.T) {
	m := booted(t)
	k, _ := keeper(t, m)
	d, before := ready(t, k, Request{Form: model.DownloadFormRaw, Values: settings()})
	write(t, filepath.Join(m.Dev, "vda1"), strings.Repeat("x", 3*mib))
	if !bytes.Equal(fetched(t, k, d), before) {
		t.Error("its bytes are others now")
	}
	write(t, filepath.Join(m.Proc, "cmdline"), "roothash="+strings.Repeat("ab", 32)+"\n")
	if _, _, err := k.Content(d.ID, d.Name); !errors.Is(err, ErrGone) {
		t.Errorf("after an update: %v", err)
	}
}

func TestAnImageThatIsNoAppliancesIsRefused(t *testing.T) {
	m := booted(t)
	k, _ := keeper(t, Machine{Proc: m.Proc})
	disk := string(read(t, filepath.Join(m.Dev, "vda")))
	for name, c := range map[string]struct{ text, want string }{
		"empty":       {"", "has no partition table"},
		"text":        {strings.Repeat("text", mib), "has no partition table"},
		"compressed":  {string(zstdMagic) + disk, "is compressed"},
		"cut":         {disk[:9*mib], "has no partition table"},
		"damaged":     {disk[:1200] + "x" + disk[1201:], "wrong checksum"},
		"not a root":  {withoutRoot(t, disk), "has no partition of the type 4f68bce3"},
		"overlapping": {overlapping(t, disk), "lie over one another"},
	} {
		write(t, inStorage(k, name), c.text)
		d := done(t, k, Request{Form: model.DownloadFormRaw, Values: settings(), Base: place(name)})
		if d.State != model.DownloadStateFailed || !strings.Contains(d.Detail, c.want) {
			t.Errorf("%s: %s, %q", name, d.State, d.Detail)
		}
	}
	d := done(t, k, Request{Form: model.DownloadFormRaw, Values: settings(), Base: place("../escape")})
	if d.State != model.DownloadStateFailed {
		t.Errorf("outside of the storage: %s", d.State)
	}
}

// changed is a disk with another table.
func changed(t *testing.T, disk string, change func([]*gpt.Partition) []*gpt.Partition) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	write(t, path, disk)
	parts := change(table(t, path))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	other := gpt.Table{Partitions: parts, LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true}
	if err := other.Write(f, int64(len(disk))); err != nil {
		t.Fatal(err)
	}
	return string(read(t, path))
}

func withoutRoot(t *testing.T, disk string) string {
	return changed(t, disk, func(parts []*gpt.Partition) []*gpt.Partition { return parts[:2] })
}

func overlapping(t *testing.T, disk string) string {
	return changed(t, disk, func(parts []*gpt.Partition) []*gpt.Partition {
		parts[2].Start = parts[1].Start
		parts[2].Size = (parts[2].End - parts[2].Start + 1) * sector
		return parts
	})
}
