package build

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline/proc"
)

// Each policy here meets a tree that breaks it.

func TestWrongArrowsAreFound(t *testing.T) {
	tests := []struct {
		file, imports string
		wrong         bool
	}{
		{"agent/main.go", "fixers/linux", false},
		{"agent/main.go", "vmware/transport", false},
		{"pipeline/fetch.go", "vmware/transport", false},
		{"pipeline/source/x.go", "pipeline/target", false},
		{"pipeline/source/x.go", "agent/api", true},
		{"pipeline/x.go", "ui", true},
		{"fixers/linux/x.go", "fixers/guest", false},
		{"fixers/linux/x.go", "pipeline/disk/nbd", false},
		{"fixers/linux/x.go", "pipeline/transfer", true},
		{"fixers/linux/x.go", "testers/qemu", true},
		{"fixers/linux/x_test.go", "pipeline", true},
		{"testers/qemu/x.go", "pipeline/accel", false},
		{"testers/qemu/x.go", "pipeline", true},
		{"testers/e2e/x_test.go", "pipeline", false},
		{"testers/e2e/x_test.go", "vmware/transport", false},
		{"testers/e2e/x.go", "pipeline", true},
		{"vmware/x.go", "vmware/transport", true},
		{"vmware/transport/x.go", "vmware", true},
		{"vmware/transport/nfc/x.go", "vmware/transport", false},
		{"vmware/x_test.go", "vmware/vmwaretest", false},
		{"vmware/x.go", "vmware/vmwaretest", true},
		{"vmware/x.go", "fixers", true},
		{"pipeline/disk/x.go", "pipeline/proc", false},
		{"pipeline/disk/x.go", "pipeline", true},
		{"pipeline/proc/x.go", "fixers/guest", true},
		{"ui/x.go", "pipeline/proc", true},
		{"initramfs/init/x.go", "pipeline/machine", true},
		{"initramfs/init/x.go", "initramfs/cpio", false},
		{"elsewhere/x.go", "pipeline/proc", true},
		{"agent/main.go", "elsewhere", true},
	}
	for _, test := range tests {
		s := source{folder: path.Dir(test.file), name: path.Base(test.file), imports: []string{"fmt", module + "/" + test.imports}}
		if got := wrongArrows([]source{s}); (len(got) > 0) != test.wrong {
			t.Errorf("wrongArrows(%s imports %s) = %q, want wrong: %v", test.file, test.imports, got, test.wrong)
		}
	}
}

func TestAnotherRoomForCIsFound(t *testing.T) {
	got := outOfRoom([]source{
		{folder: "testers/libvirt", name: "daemon.go", imports: []string{"libvirt.org/go/libvirt", "libvirt.org/go/libvirtxml"}},
		{folder: "pipeline/target", name: "libvirt.go", imports: []string{"libvirt.org/go/libvirt"}},
		{folder: "fixers/windows", name: "hive.go", imports: []string{"C"}},
	})
	if len(got) != 2 || !strings.HasPrefix(got[0], "pipeline/target/libvirt.go") || !strings.HasPrefix(got[1], "fixers/windows/hive.go") {
		t.Errorf("outOfRoom = %q", got)
	}
}

func TestASecondRunnerOfProgramsIsFound(t *testing.T) {
	got := programRunners([]source{
		{folder: "pipeline/proc", name: "proc.go", imports: []string{"os/exec"}},
		{folder: "pipeline/disk", name: "disk_test.go", imports: []string{"os", "os/exec"}},
	})
	want := []string{"pipeline/disk/disk_test.go imports os/exec: run programs through pipeline/proc"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAPackageWithoutCommentIsFound(t *testing.T) {
	got := uncommented([]source{
		{folder: "agent", name: "doc.go", comment: "Command agent is the binary."},
		{folder: "agent", name: "serve.go"},
		{folder: "fixers", name: "fixers.go"},
	})
	if diff := cmp.Diff([]string{"fixers has no package comment"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnUninstalledProgramIsFound(t *testing.T) {
	programs := []proc.Program{{Name: "true", Package: "coreutils"}, {Name: "nbdkit", Package: "nbdkit"}}
	if got := uninstalled(programs, []string{"coreutils"}); len(got) != 1 || !strings.Contains(got[0], "nbdkit") {
		t.Errorf("uninstalled = %q, want only nbdkit", got)
	}
}

func TestANamedPlaceIsFound(t *testing.T) {
	for text, want := range map[string]int{
		"deb http://deb." + "debian.org/debian bookworm main": 1,
		"GOPROXY=https://proxy." + "golang.org\nsecond":       1,
		"cd /wo" + "rk/main":                                  1,
		"lowerdir=/a,upperdir=/b,/wo" + "rk/c":                1,
		"mount /srv/wo" + "rk/x":                              0,
		"import golang.org/x/sys":                             0,
		"https://www.debian.org/":                             0,
		"\x00 deb." + "debian.org":                            0,
	} {
		if got := placesNamed("f", []byte(text)); len(got) != want {
			t.Errorf("placesNamed(%q) = %q, want %d", text, got, want)
		}
	}
}

func TestAnUndocumentedTargetIsFound(t *testing.T) {
	makefile := "X := y\nZ = w\n.PHONY: help all\nhelp: ## print\n\techo\nall: help\nvet: all ## check\nempty:\n"
	want := []string{"all has no ## help", "vet is not .PHONY", "empty has no ## help", "empty is not .PHONY"}
	if diff := cmp.Diff(want, undocumented(makefile)); diff != "" {
		t.Error(diff)
	}
}

func TestAReadmeThatLacksARowIsFound(t *testing.T) {
	source := "const (\n\texitOK = 0\n\texitFailed    = 1 // x\n)\n" +
		"\t\tUse: \"undo FOLDER\", Short: \"Take\"\n\t\tUse: \"version\", Short: \"Print\"\n"
	rows := commandLine(source)
	want := []row{{"the command undo", "`hyper2kvm undo"}, {"the command version", "`hyper2kvm version"}, {"the exit status 0", "0 |"}, {"the exit status 1", "1 |"}}
	if diff := cmp.Diff(want, rows, cmp.AllowUnexported(row{})); diff != "" {
		t.Fatal(diff)
	}
	readme := "| `hyper2kvm undo FOLDER` | takes back |\n\n| 0 | done |\n| 0 | again |\n| 1 | failed |\n"
	lacks := []string{
		"the command version: README.md has 0 rows that begin with \"`hyper2kvm version\", want 1",
		"the exit status 0: README.md has 2 rows that begin with \"0 |\", want 1",
	}
	if diff := cmp.Diff(lacks, unexplained(readme, rows)); diff != "" {
		t.Error(diff)
	}
}

func TestAReadmeThatTellsOfWhatIsGoneIsFound(t *testing.T) {
	readme := "x\n\n| fixer | because |\n|---|---|\n| `a/b` | c |\n| `old` | d |\n\n| `other` | e |\n"
	want := []string{"README.md tells of the fixer old, which is not there"}
	if diff := cmp.Diff(want, surplus(readme, "fixer", map[string]bool{"a/b": true})); diff != "" {
		t.Error(diff)
	}
}
