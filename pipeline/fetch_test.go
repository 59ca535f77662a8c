package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/pipeline/source"
)

// linkedClone is a VM whose disk is a snapshot, in a folder of its own, of a
// disk in pieces in another.
func linkedClone(t *testing.T) (vmx, base string) {
	t.Helper()
	for _, p := range []string{"qemu-img", "qemu-nbd", "qemu-storage-daemon"} {
		if _, err := proc.Look(p); err != nil {
			if os.Getenv("NEED_TOOLS") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	base, folder := t.TempDir(), t.TempDir()
	for _, args := range [][]string{
		{"-o", "subformat=twoGbMaxExtentFlat", filepath.Join(base, "web.vmdk"), "8M"},
		{"-F", "vmdk", "-b", filepath.Join(base, "web.vmdk"), "-o", "subformat=twoGbMaxExtentSparse", filepath.Join(folder, "web-000001.vmdk")},
	} {
		if _, err := proc.Run(t.Context(), "qemu-img", append([]string{"create", "-q", "-f", "vmdk"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	vmx = filepath.Join(folder, "web.vmx")
	if err := os.WriteFile(vmx, []byte("displayName = \"web\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"web-000001.vmdk\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return vmx, base
}

// fetched is a run that did no more than FETCH and FLATTEN.
func fetched(t *testing.T, vmx, base string) *Run {
	t.Helper()
	r, err := begun(t, filepath.Join(t.TempDir(), "m"), Options{Source: vmx, Shape: disk.Shape{Format: disk.QCOW2}, Until: "flatten", AllowFolders: []string{base}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.release(t.Context()), r.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestEveryFileOfTheChainIsTheSource(t *testing.T) {
	vmx, base := linkedClone(t)
	if err := fetched(t, vmx, "/").fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := fetched(t, vmx, t.TempDir()).fetch(t.Context()); !errors.Is(err, source.ErrBadInput) || !strings.Contains(err.Error(), disk.AllowFlag+" "+base) {
		t.Errorf("a parent that is not allowed: fetch = %v", err)
	}
	r := fetched(t, vmx, base)
	if err := r.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(vmx)
	want := []string{vmx, filepath.Join(folder, "web-000001.vmdk"), filepath.Join(folder, "web-000001-s001.vmdk"), filepath.Join(base, "web.vmdk"), filepath.Join(base, "web-f001.vmdk")}
	if got := paths(r.Sources); !slices.Equal(got, want) {
		t.Errorf("the source's files are %q, want %q", got, want)
	}
	if d := r.Machine.Disks[0]; d.Kind != "twoGbMaxExtentSparse" || !slices.Equal(d.Parents, []string{filepath.Join(base, "web.vmdk")}) {
		t.Errorf("the disk is recorded as %+v", d)
	}
}

// Whichever file it is, and however it was changed: its size, its time, or its
// content with its time put back.
func TestAChangeOfAnyOfTheSourcesFilesIsNoticed(t *testing.T) {
	vmx, base := linkedClone(t)
	r := fetched(t, vmx, base)
	if err := r.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.sameSources(t.Context()); err != nil {
		t.Errorf("nothing changed: %v", err)
	}
	for _, path := range paths(r.Sources) {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func() error{
			"appended to": func() error { return os.WriteFile(path, append(slices.Clone(before), 0), 0o600) },
			"touched":     func() error { later := time.Now().Add(time.Minute); return os.Chtimes(path, later, later) },
			"rewritten, its time put back": func() error {
				return errors.Join(os.WriteFile(path, before, 0o600), os.Chtimes(path, info.ModTime(), info.ModTime()))
			},
			"replaced": func() error {
				return errors.Join(os.WriteFile(path+".new", before, 0o600), os.Chtimes(path+".new", info.ModTime(), info.ModTime()), os.Rename(path+".new", path))
			},
			"gone": func() error { return os.Rename(path, path+".old") },
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			if err := r.sameSources(t.Context()); !errors.Is(err, ErrSourceChanged) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s was %s: sameSources = %v, want %v", path, name, err, ErrSourceChanged)
			}
			if err := errors.Join(os.RemoveAll(path+".old"), os.WriteFile(path, before, 0o600)); err != nil {
				t.Fatal(err)
			}
			for i := range r.Sources {
				if r.Sources[i], err = identify(r.Sources[i].Path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A file that appears where a name leads first makes another disk of the same
// descriptors.
func TestAParentThatAppearsNearerIsNoticed(t *testing.T) {
	vmx, base := linkedClone(t)
	elsewhere := t.TempDir()
	for _, name := range []string{"web.vmdk", "web-f001.vmdk"} {
		if err := os.Rename(filepath.Join(base, name), filepath.Join(elsewhere, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := fetched(t, vmx, elsewhere)
	if err := r.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := closeAll(r.sources); err != nil {
		t.Fatal(err)
	}
	r.sources = nil
	for _, name := range []string{"web.vmdk", "web-f001.vmdk"} {
		data, err := os.ReadFile(filepath.Join(elsewhere, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(vmx), name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.openSources(t.Context()); !errors.Is(err, ErrSourceChanged) {
		t.Errorf("openSources = %v, want %v", err, ErrSourceChanged)
	}
}

func TestASourceInUseIsNotOpened(t *testing.T) {
	vmx, base := linkedClone(t)
	for _, lock := range []string{vmx + ".lck", filepath.Join(filepath.Dir(vmx), "web-000001.vmdk.lck")} {
		if err := os.Mkdir(lock, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := fetched(t, vmx, base).fetch(t.Context()); !errors.Is(err, disk.ErrInUse) || !strings.Contains(err.Error(), lock) {
			t.Errorf("fetch = %v, want %v", err, disk.ErrInUse)
		}
		if err := os.Remove(lock); err != nil {
			t.Fatal(err)
		}
	}
	writer, err := os.OpenFile(filepath.Join(base, "web-f001.vmdk"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if err := fetched(t, vmx, base).fetch(t.Context()); !errors.Is(err, disk.ErrInUse) {
		t.Errorf("fetch = %v, want %v", err, disk.ErrInUse)
	}
}
