package linux

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/tree"
	"hyper2kvm/fixers/initrd"
	"hyper2kvm/fixers/inspect"
)

// The tools' own folders stay as a whole, with their uninstaller, when they are
// too much to be kept for undo; what takes part in the system goes all the same.
func TestLargeToolsStayInTheirOwnFolders(t *testing.T) {
	large := string(make([]byte, maxRemovedBytes/2+1))
	for what, files := range map[string]map[string]string{
		"bytes": {"/usr/lib/vmware-tools/lib64/libvmtools.so": large},
		"files": many("/usr/lib/vmware-tools/modules/", maxRemoved),
	} {
		guestFiles, list := tree.New(), "file /usr/bin/vmware-uninstall-tools.pl\nfile /etc/pam.d/vmtoolsd\n"
		for name, content := range files {
			writeAll(t, guestFiles, name, content)
			list += "file " + name + "\n"
		}
		for name, content := range map[string]string{"/usr/bin/vmware-uninstall-tools.pl": "x", "/etc/pam.d/vmtoolsd": "x", toolsListFile: list} {
			writeAll(t, guestFiles, name, content)
		}
		for round, want := range [][]string{{"/etc/pam.d/vmtoolsd", toolsListFile}, nil} {
			changes, concerns := plan(t, vmwareTarball, guestFiles, fixer.Input{})
			var changed []string
			for _, c := range changes {
				changed = append(changed, c.Path)
			}
			if !slices.Equal(changed, want) || len(concerns) != 1 || !strings.Contains(concerns[0].Try, uninstaller) {
				t.Errorf("%s, round %d: changed %q, want %q; concerns %+v", what, round, changed, want, concerns)
			}
			apply(t, guestFiles, changes)
		}
		now, err := guestFiles.ReadFile(toolsListFile, guest.MaxText)
		if err != nil || string(now) != list+"remove_file /etc/pam.d/vmtoolsd\n" {
			t.Errorf("%s: the list ends with %q, %v", what, now[max(0, len(now)-40):], err)
		}
	}
}

func many(folder string, n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("%s%d", folder, i)] = ""
	}
	return files
}

func TestTheToolsListIsReadAsItsInstallerReadsIt(t *testing.T) {
	l := parseLocations([]byte("file /a 12\nfile /b b\nfile /c 13 x,y\nfile /d 14 15\nfile /e\nfile /a 16\nfile /f 1\nremove_file /f\nfile /g 1\nremove_file /g\nfile /g 2\n" +
		"answer K v w\nanswer L\nanswer M m\nremove_answer M\nmodified /a\ndirectory /a\r\njunk\n"))
	if want := []string{"/a", "/b b", "/c", "/d 14", "/e", "/g"}; !slices.Equal(l.files, want) {
		t.Errorf("files %q, want %q", l.files, want)
	}
	if want := map[string]int64{"/a": 16, "/c": 13, "/d 14": 15, "/g": 2}; !maps.Equal(l.times, want) {
		t.Errorf("times %v, want %v", l.times, want)
	}
	if want := map[string]string{"K": "v w", "L": ""}; !maps.Equal(l.answers, want) {
		t.Errorf("answers %q, want %q", l.answers, want)
	}
	if !l.modified["/a"] || len(l.modified) != 1 {
		t.Errorf("modified %v", l.modified)
	}
}

func FuzzLocations(f *testing.F) {
	f.Add([]byte("file /etc/vmware-tools/x 1\nfile /usr/bin/vmware-x\nanswer RESTORE_BACK_LIST A\nanswer RESTORE_A /etc/x\nanswer RESTORE_A_BAK /etc/x.BeforeVMwareToolsInstall\nfile /etc/x -62135596800\n"))
	f.Add([]byte("file /etc/vmware-tools/../passwd\nfile /etc/vmware-tools/out/passwd\nfile //etc/passwd\nremove_file \nfile  \n"))
	f.Fuzz(func(t *testing.T, list []byte) {
		files := tree.New()
		for _, name := range []string{"/etc/passwd", "/etc/vmware-tools/x", "/usr/bin/vmware-x", "/usr/bin/sh", "/etc/x", "/etc/x" + savedSuffix} {
			writeAll(t, files, name, "content of "+name)
		}
		if err := files.Symlink("/etc", "/etc/vmware-tools/out"); err != nil {
			t.Fatal(err)
		}
		writeAll(t, files, toolsListFile, string(list))
		changes, _ := plan(t, vmwareTarball, files, fixer.Input{})
		for _, c := range changes {
			if c.Path == "/etc/passwd" || c.Path == "/usr/bin/sh" {
				t.Fatalf("%q changes %s", list, c.Path)
			}
		}
		apply(t, files, changes)
		if again, _ := plan(t, vmwareTarball, files, fixer.Input{}); len(again) > 0 {
			t.Errorf("%q: a second plan changes %s", list, again[0].Path)
		}
	})
}

func TestSettingsAgainstVirtioAreSwitchedOffInTheInitrdToo(t *testing.T) {
	const settings, text = "/etc/modprobe.d/hardening.conf", "install virtio_blk /bin/true\n"
	copied, files := tree.New(), tree.New()
	writeAll(t, copied, settings, text)
	writeAll(t, files, settings, text)
	writeAll(t, files, "/boot/initrd", string(pack(copied)))
	in := fixer.Input{Facts: inspect.Facts{Kernels: []inspect.Kernel{{Version: "6.1", Image: "/boot/vmlinuz", Initrd: "/boot/initrd",
		Drivers: map[string]inspect.Where{"virtio_pci": inspect.Builtin, "virtio_blk": inspect.InInitrd}}}}}
	view := guest.NewView(files)
	for _, f := range []fixer.Fixer{vmwareModules, initrdDrivers} {
		view.As(f.Name, f.Why)
		if _, err := f.Plan(t.Context(), view, in); err != nil {
			t.Fatal(err)
		}
	}
	data, err := view.ReadFile("/boot/initrd", guest.MaxFile)
	if err != nil {
		t.Fatal(err)
	}
	rd, err := initrd.Parse(data, initrd.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := rd.ReadFile(settings); err != nil || string(got) != virtioNote+"\n#"+text {
		t.Errorf("the initrd has %q, %v", got, err)
	}
}
