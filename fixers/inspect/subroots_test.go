package inspect

import (
	"errors"
	"log/slog"
	"path"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/pipeline/machine"
)

// installed is a subvolume that looks like a root: the options of / in its fstab,
// and the root's flags in its own menu, if it has one.
type installed struct {
	subvolume, options, flags string
	readOnly                  bool
}

// onBtrfs is a guest whose disk has a partition for /boot and a btrfs.
func onBtrfs(t *testing.T, byDefault, bootFlags string, roots []installed, others ...guest.Subvolume) guest.Guest {
	t.Helper()
	top := guest.Topology{Filesystems: []guest.Filesystem{{Device: "disk0p1", Type: "ext4", UUID: "b"}, {Device: "disk0p2", Type: "btrfs", UUID: "a"}}}
	var files []txtar.File
	add := func(name, text string) { files = append(files, txtar.File{Name: name, Data: []byte(text)}) }
	menu := func(name, flags string) {
		if flags != "" {
			add(name+"/grub/grub.cfg", "menuentry 'x' {\n\tlinux /vmlinuz root=UUID=a rootflags="+flags+"\n}\n")
		}
	}
	menu("disk0p1", bootFlags)
	subvolumes := append([]guest.Subvolume{{ID: 5, Path: "/"}}, others...)
	for i, r := range roots {
		at := path.Join("disk0p2", r.subvolume)
		add(at+"/etc/os-release", "ID=debian\n")
		add(at+"/sbin/init", "x")
		add(at+"/etc/fstab", "UUID=a / btrfs "+r.options+" 0 0\n")
		menu(at+"/boot", r.flags)
		if r.subvolume != "/" {
			subvolumes = append(subvolumes, guest.Subvolume{ID: uint64(300 + i), Path: r.subvolume, ReadOnly: r.readOnly})
		}
	}
	for i := range subvolumes {
		subvolumes[i].Default = subvolumes[i].Path == byDefault
	}
	top.Filesystems[1].Subvolumes = subvolumes
	volumes := map[string]*tree.FS{}
	for _, fs := range top.Filesystems {
		v, err := tree.Parse(&txtar.Archive{Files: files}, fs.Device)
		if err != nil {
			t.Fatal(err)
		}
		volumes[fs.Device] = v
	}
	return tree.NewGuest(top, volumes)
}

func TestTheSubvolumeThatStartsIsTheRoot(t *testing.T) {
	for _, c := range []struct {
		name              string
		byDefault, onBoot string
		roots             []installed
		want              string // "" for none that is known to
	}{
		{"the only one", "/", "", []installed{{"/@", "defaults", "", false}}, "/@"},
		{"named by fstab", "/", "", []installed{{"/@old", "subvol=@", "", false}, {"/@", "subvol=@", "", false}}, "/@"},
		{"named by its ID", "/", "", []installed{{"/@old", "subvolid=301", "", false}, {"/@", "noatime,subvolid=301", "", false}}, "/@"},
		{"the default, which names no other", "/@", "", []installed{{"/@", "defaults", "", false}, {"/@/.snapshots/1/snapshot", "defaults", "", false}}, "/@"},
		{"named by fstab, the default being an old one", "/", "", []installed{{"/", "subvol=@", "", false}, {"/@", "subvol=@", "", false}}, "/@"},
		{"the only one that a menu names", "/", "", []installed{{"/@a", "defaults", "", false}, {"/@b", "defaults", "subvol=@b", false}}, "/@b"},
		{"named by another root's menu", "/", "", []installed{{"/@a", "defaults", "subvol=@b", false}, {"/@b", "defaults", "", false}}, ""},
		{"named by its own menu", "/", "", []installed{{"/@snapshots/1", "defaults", "subvol=@", false}, {"/@", "defaults", "subvol=@", false}}, "/@"},
		{"named by the menu at /boot", "/", "compress=zstd,subvol=/@", []installed{{"/@snapshots/1", "defaults", "", false}, {"/@", "defaults", "", false}}, "/@"},
		{"two by their fstab, one by the menu at /boot", "/", "subvol=@b", []installed{{"/@a", "subvol=@a", "", false}, {"/@b", "subvol=@b", "", false}}, "/@b"},
		{"two systems", "/", "", []installed{{"/@a", "subvol=@a", "subvol=@a", false}, {"/@b", "subvol=@b", "subvol=@b", false}}, ""},
		{"two systems, one of them the default", "/@a", "", []installed{{"/@a", "subvol=@a", "", false}, {"/@b", "subvol=@b", "", false}}, "/@a"},
		{"copies of what is gone", "/", "", []installed{{"/@1", "subvol=@", "", false}, {"/@2", "subvol=@", "", false}}, ""},
		{"copies of what is gone, one of them the default", "/@2", "", []installed{{"/@1", "subvol=@", "", false}, {"/@2", "subvol=@", "", false}}, "/@2"},
	} {
		g := onBtrfs(t, c.byDefault, c.onBoot, c.roots, guest.Subvolume{ID: 290, Path: "/@home"})
		f, err := Inspect(t.Context(), g, machine.Machine{}, slog.New(slog.DiscardHandler))
		if c.want == "" {
			if !errors.Is(err, ErrManyRoots) || !strings.Contains(err.Error(), "disk0p2["+c.roots[0].subvolume+"]") {
				t.Errorf("%s: error %v, want %v", c.name, err, ErrManyRoots)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		root, _ := f.MountAt("/")
		if s, _ := f.SubvolumeOf(root); s.Path != c.want {
			t.Errorf("%s: the root is %q, want %q", c.name, s.Path, c.want)
		}
	}
}

func TestASnapshotIsNoRoot(t *testing.T) {
	g := onBtrfs(t, "/", "", []installed{{"/@", "subvol=@", "", true}})
	if _, err := Inspect(t.Context(), g, machine.Machine{}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNoOS) {
		t.Errorf("error %v, want %v", err, ErrNoOS)
	}
}

func TestAMountShowsWhatItsOptionsName(t *testing.T) {
	fs := guest.Filesystem{Subvolumes: []guest.Subvolume{{ID: 5, Path: "/"}, {ID: 256, Path: "/@"}, {ID: 257, Path: "/@/var/log", Default: true}}}
	for options, want := range map[string]uint64{
		"":                          257,
		"defaults,compress=zstd":    257,
		"subvol=@":                  256,
		"subvol=/@/":                256,
		"subvol=/":                  5,
		"subvolid=256":              256,
		"subvolid=0x100":            256,
		"subvolid=0":                5,
		"subvolid=5,subvol=@":       256,
		"subvol=@,subvol=@/var/log": 257,
		"subvol=@home":              0,
		"subvolid=999":              0,
		"subvolid=none":             0,
	} {
		if got, ok := subvolumeOf(fs, options); got.ID != want || ok != (want != 0) {
			t.Errorf("subvolumeOf(%q) = %+v, %v, want %d", options, got, ok, want)
		}
	}
	if got, ok := subvolumeOf(guest.Filesystem{}, "subvol=@"); ok || got.ID != 0 {
		t.Errorf("of no subvolumes = %+v, %v", got, ok)
	}
}

func TestABootLoadersSubvolumeIsComparedWithTheRoot(t *testing.T) {
	g := onBtrfs(t, "/", "", []installed{{"/@", "subvol=@", "subvol=@old", false}, {"/@old", "subvol=@", "", false}})
	if err := g.MountSubvolume("disk0p2", 300, "/"); err != nil {
		t.Fatal(err)
	}
	if err := g.WriteFile("/vmlinuz", 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := g.UnmountAll(); err != nil {
		t.Fatal(err)
	}
	f, err := Inspect(t.Context(), g, machine.Machine{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if text := f.Problems[len(f.Problems)-1].Value; !strings.Contains(text, "rootflags=subvol=@old is not the subvolume /@,") {
		t.Errorf("problems %+v", f.Problems)
	}
}
