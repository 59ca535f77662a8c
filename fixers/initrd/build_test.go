package initrd

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// item is an entry of an initrd made by a test.
type item struct {
	name string
	mode uint32
	body string
}

func dir(name string) item        { return item{name, typeDir | 0o755, ""} }
func file(name, body string) item { return item{name, typeReg | 0o644, body} }
func link(name, to string) item   { return item{name, typeLink | 0o777, to} }

func archiveOf(items ...item) []byte {
	var a archiver
	for _, i := range items {
		a.add(i.name, i.mode, []byte(i.body))
	}
	return a.close()
}

// hardLinks is an archive in which all files are names of one inode.
func hardLinks(items ...item) []byte {
	var out []byte
	for _, i := range items {
		var a archiver
		a.add(i.name, i.mode, []byte(i.body))
		h := a.out.Bytes()
		copy(h[6:], "0000002A")
		copy(h[38:], "00000002")
		out = append(out, h...)
	}
	return append(out, archiveOf()...)
}

// withParents puts the folders that a list of files needs in front of them.
func withParents(items ...item) []item {
	made := map[string]bool{}
	var out []item
	for _, i := range items {
		for _, d := range parents(i.name) {
			if !made[d] {
				made[d] = true
				out = append(out, dir(d))
			}
		}
		made[i.name] = true
		out = append(out, i)
	}
	return out
}

func parsed(t testing.TB, data []byte) *Initrd {
	t.Helper()
	i, err := Parse(data, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func joined(parts ...[]byte) []byte { return slices.Concat(parts...) }

// fixture is an archive that a real cpio packed and a real compressor compressed.
func fixture(t testing.TB, compression string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/tiny." + compression)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// memTree is a guest's module folder in memory.
type memTree map[string]string

func (m memTree) ReadFile(name string, limit int64) ([]byte, error) {
	data, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, limit)
	}
	return []byte(data), nil
}

// dirTree is a guest's module folder on disk.
type dirTree string

func (d dirTree) ReadFile(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(path.Join(string(d), name))
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, limit)
	}
	return os.ReadFile(path.Join(string(d), name))
}

const version = "6.1.0-test"

func elf(name string) string { return "\x7fELF " + name + " ~Module signature appended~\n" }

// guestModules is a kernel with virtio modules, one in each compression.
func guestModules(t testing.TB) memTree {
	t.Helper()
	xz, err := packXZ([]byte(elf("virtio_ring")))
	if err != nil {
		t.Fatal(err)
	}
	zst, err := packZstd([]byte(elf("virtio_pci")))
	if err != nil {
		t.Fatal(err)
	}
	gz, err := packGzip([]byte(elf("virtio_net")))
	if err != nil {
		t.Fatal(err)
	}
	return memTree{
		"kernel/drivers/block/virtio_blk.ko":          elf("virtio_blk"),
		"kernel/drivers/virtio/virtio.ko":             elf("virtio"),
		"kernel/drivers/virtio/virtio_ring.ko.xz":     string(xz),
		"kernel/drivers/virtio/virtio_pci.ko.zst":     string(zst),
		"kernel/drivers/net/virtio_net.ko.gz":         string(gz),
		"kernel/drivers/char/hw_random/virtio-rng.ko": elf("virtio_rng"),
		"kernel/arch/x86/crypto/crc32c-intel.ko":      elf("crc32c_intel"),
		"kernel/fs/ext4/ext4.ko.xz":                   string(xz),
		"kernel/drivers/scsi/vmw_pvscsi.ko.xz":        string(xz),
		"modules.builtin":                             "kernel/drivers/scsi/sd_mod.ko\nkernel/drivers/scsi/scsi_mod.ko\n",
		"modules.builtin.modinfo":                     "sd_mod.alias=scsi:t-0x00*\x00sd_mod.license=GPL\x00",
		"modules.softdep":                             "# Soft dependencies\nsoftdep virtio_blk pre: crypto-crc32c sd_mod nonesuch post: virtio_net\n",
		"modules.alias":                               "# Aliases\nalias virtio:d00000002v* virtio_blk\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\nalias crypto-crc32c crc32c_intel\nalias virtio:d00000001v* virtio_net\nalias virtio:d00000004v* virtio_rng\n",
		"modules.symbols":                             "alias symbol:virtqueue_kick virtio_ring\nalias symbol:ext4_x ext4\n",
		"modules.dep": strings.Join([]string{
			"kernel/arch/x86/crypto/crc32c-intel.ko:",
			"kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko.xz",
			"kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko.xz",
			"kernel/drivers/virtio/virtio_ring.ko.xz:",
			"kernel/drivers/virtio/virtio_pci.ko.zst: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko.xz",
			"kernel/drivers/net/virtio_net.ko.gz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko.xz",
			"kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko.xz",
			"kernel/fs/ext4/ext4.ko.xz:",
			"kernel/drivers/scsi/vmw_pvscsi.ko.xz:",
		}, "\n") + "\n",
	}
}

// vmwareInitrd is an initrd of initramfs-tools on a merged /usr that knows
// VMware's controller only.
func vmwareInitrd(more ...item) []byte {
	mods := "usr/lib/modules/" + version + "/"
	items := append([]item{link("lib", "usr/lib")}, withParents(
		file("conf/initramfs.conf", "MODULES=dep\n"),
		file("conf/modules", "# loaded first\next4\nvirtio-rng quality=1"),
		file("conf/conf.d/resume", "RESUME=/dev/sda5\n"),
		file(mods+"kernel/drivers/scsi/vmw_pvscsi.ko.xz", "xz"),
		file(mods+"kernel/fs/ext4/ext4.ko.xz", "xz"),
		file(mods+"updates/site.ko", "site"),
		file(mods+"modules.dep", "kernel/drivers/scsi/vmw_pvscsi.ko.xz:\nkernel/fs/ext4/ext4.ko.xz:\nupdates/site.ko: kernel/fs/ext4/ext4.ko.xz\n"),
		file(mods+"modules.alias", "alias pci:site* site\n"),
	)...)
	return archiveOf(append(items, more...)...)
}

var virtio = []string{"virtio_pci", "virtio-blk", "virtio_net", "virtio_rng", "sd_mod", "virtio_scsi"}

// extract writes the regular files of all members below a folder, as the kernel
// would leave them.
func extract(t testing.TB, data []byte, root string) {
	t.Helper()
	for name, body := range contents(t, data) {
		full := path.Join(root, name)
		if err := os.MkdirAll(path.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// contents unpacks an initrd without the limits on what is kept, by making every
// file configuration for the time of a test.
func contents(t testing.TB, data []byte) map[string][]byte {
	t.Helper()
	i := parsed(t, data)
	out := map[string][]byte{}
	for _, m := range i.Members {
		maps.Copy(out, bodies(t, data[m.Offset:m.Offset+m.Size], i))
	}
	return out
}
