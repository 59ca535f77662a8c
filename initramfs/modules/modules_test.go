package modules

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree is a folder of modules that are not loaded: which were, and in which order, is told.
func tree(t *testing.T, fails ...string) (*Tree, *[]string) {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"modules.dep":        "a/virtio-blk.ko.xz: a/virtio_ring.ko.xz a/virtio.ko.xz\na/virtio_ring.ko.xz: a/virtio.ko.xz\na/virtio.ko.xz:\nb/ext4.ko.xz: b/jbd2.ko.xz\nb/jbd2.ko.xz:\nb/crc32c_generic.ko.xz:\nb/absent.ko.xz:\n",
		"modules.softdep":    "# from the modules\nsoftdep ext4 pre: crypto-crc32c post: ext4\n",
		"modules.alias":      "alias virtio:d00000002v* virtio_blk\nalias fs-ext4 ext4\nalias crypto-crc32c crc32c_generic\nalias pci:v00001AF4d* absent\n",
		"a/virtio-blk.ko.xz": "", "a/virtio_ring.ko.xz": "", "a/virtio.ko.xz": "", "b/ext4.ko.xz": "", "b/jbd2.ko.xz": "", "b/crc32c_generic.ko.xz": "",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	var loaded []string
	m.load = func(file string) error {
		loaded = append(loaded, Name(file))
		if slices.Contains(fails, Name(file)) {
			return errors.New("no such device")
		}
		return nil
	}
	return m, &loaded
}

func TestWhatAModuleNeedsComesBefore(t *testing.T) {
	m, loaded := tree(t)
	for _, name := range []string{"virtio_blk", "virtio-blk", "ext4", "built_in", "absent"} {
		if err := m.Load(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if want := []string{"virtio", "virtio_ring", "virtio_blk", "crc32c_generic", "jbd2", "ext4"}; !slices.Equal(*loaded, want) {
		t.Errorf("loaded are %q, want %q", *loaded, want)
	}
	if !m.Has("virtio-blk") || m.Has("absent") {
		t.Error("what is not there is said to be, or the other way round")
	}
}

func TestAModuleThatIsNeededAndDoesNotLoadIsTold(t *testing.T) {
	m, loaded := tree(t, "virtio", "crc32c_generic")
	if err := m.Load("virtio_blk"); err == nil || !strings.Contains(err.Error(), "virtio: no such device") {
		t.Errorf("got %v", err)
	}
	if err := m.Load("ext4"); err != nil { // it would only like to have crc32c
		t.Error(err)
	}
	if slices.Contains(*loaded, "virtio_blk") || !slices.Contains(*loaded, "ext4") {
		t.Errorf("loaded are %q", *loaded)
	}
}

func TestDevicesGetTheirDrivers(t *testing.T) {
	m, loaded := tree(t)
	devices := t.TempDir()
	for name, alias := range map[string]string{"pci0/virtio0": "virtio:d00000002v00001AF4", "pci0/other": "pci:v00001AF4d00001001", "pci0/none": ""} {
		path := filepath.Join(devices, name, "modalias")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(alias+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := m.Devices(devices); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"virtio", "virtio_ring", "virtio_blk"}; !slices.Equal(*loaded, want) {
		t.Errorf("loaded are %q, want %q", *loaded, want)
	}
}
