// Package build holds what Make runs and the policies of the repository: rules
// that no compiler checks, each a pure function over what was read from the
// tree, proved on a small made-up tree to fail when it is broken.
//
// Area: a folder of the package map that has rules of its own on imports.
// Leaf: an area that anyone may import.
package build

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hyper2kvm/pipeline/proc"
)

const (
	root   = ".."
	module = "hyper2kvm"
)

// area is a folder, the folders that it may import from besides itself, and
// those that its tests may import from on top. A package is in the deepest area
// that holds it, and an area inside another one is not part of that one.
type area struct {
	folder string
	may    []string
	tests  []string
}

var (
	anything = []string{"agent", "pipeline", "fixers", "testers", "vmware", "ui", "initramfs", "build"}
	leaves   = []string{"pipeline/machine", "pipeline/disk", "pipeline/accel", "pipeline/proc"}
)

// areas are the import arrows of the package map: whatever is not said here may
// not be imported. Control plane and data plane meet only in pipeline.
var areas = []area{
	{folder: "agent", may: anything},
	{folder: "build", may: anything},
	{folder: "pipeline", may: slices.Concat(leaves, []string{"vmware", "fixers", "testers"})},
	{folder: "pipeline/machine", may: leaves},
	{folder: "pipeline/disk", may: leaves},
	{folder: "pipeline/accel", may: leaves},
	{folder: "pipeline/proc", may: leaves},
	{folder: "fixers", may: leaves},
	{folder: "testers", may: leaves},
	{folder: "testers/e2e", may: slices.Concat(leaves, []string{"testers"}), tests: anything},
	{folder: "vmware", may: leaves, tests: []string{"vmware/vmwaretest"}},
	{folder: "vmware/transport", may: leaves, tests: []string{"vmware/vmwaretest"}},
	{folder: "vmware/vmwaretest", may: leaves},
	{folder: "ui"},
	{folder: "initramfs"},
}

// areaOf is the deepest area that holds a folder.
func areaOf(folder string) (area, bool) {
	var deepest area
	for _, a := range areas {
		if within(folder, a.folder) && len(a.folder) > len(deepest.folder) {
			deepest = a
		}
	}
	return deepest, deepest.folder != ""
}

func within(folder, parent string) bool {
	return folder == parent || strings.HasPrefix(folder, parent+"/")
}

// wrongArrows lists the imports that the areas forbid.
func wrongArrows(sources []source) (wrong []string) {
	for _, s := range sources {
		from, ok := areaOf(s.folder)
		if !ok {
			wrong = append(wrong, s.path()+" is in no area of the package map")
			continue
		}
		for _, imported := range s.imports {
			folder, ours := strings.CutPrefix(imported, module+"/")
			if ours && !allowed(from, folder, s.test()) {
				wrong = append(wrong, s.path()+" imports "+folder)
			}
		}
	}
	return wrong
}

func allowed(from area, folder string, test bool) bool {
	to, known := areaOf(folder)
	if !known || to.folder == from.folder {
		return known
	}
	may := from.may
	if test {
		may = slices.Concat(may, from.tests)
	}
	return slices.ContainsFunc(may, func(parent string) bool { return within(folder, parent) })
}

// runners are the packages that start programs: the initramfs is a program of its own,
// and runs those of the root that it has found.
var runners = []string{"pipeline/proc", "initramfs/boot"}

// programRunners lists the files of other packages that can start programs.
func programRunners(sources []source) (wrong []string) {
	for _, s := range sources {
		if !slices.Contains(runners, s.folder) && slices.Contains(s.imports, "os/exec") {
			wrong = append(wrong, s.path()+" imports os/exec: run programs through pipeline/proc")
		}
	}
	return wrong
}

// rooms are the packages that call into C libraries, by the binding that they use.
var rooms = map[string]string{
	"libguestfs.org/guestfs": "fixers/guest/libguestfs",
	"libvirt.org/go/libvirt": "testers/libvirt",
}

// outOfRoom lists the files that call into C elsewhere.
func outOfRoom(sources []source) (wrong []string) {
	for _, s := range sources {
		for _, imported := range s.imports {
			if room, ok := rooms[imported]; imported == "C" || ok && s.folder != room {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: C libraries have rooms of their own, %v", s.path(), imported, rooms))
			}
		}
	}
	return wrong
}

// uncommented lists the packages of which no file has a package comment.
func uncommented(sources []source) (wrong []string) {
	comments := map[string]string{}
	for _, s := range sources {
		comments[s.folder] += s.comment
	}
	for folder, comment := range comments {
		if strings.TrimSpace(comment) == "" {
			wrong = append(wrong, folder+" has no package comment")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// uninstalled lists the programs whose package the set-up does not install.
func uninstalled(programs []proc.Program, packages []string) (wrong []string) {
	for _, p := range programs {
		if !p.Bench && !p.Image && !p.Hook && !slices.Contains(packages, p.Package) {
			wrong = append(wrong, fmt.Sprintf("%s needs the package %q, which build/setup does not install", p.Name, p.Package))
		}
	}
	return wrong
}

// places are what only one machine has: the addresses of package registries,
// which a machine's own settings name, and one checkout's path. They are put
// together here so that this file does not name them.
var places = regexp.MustCompile(strings.Join([]string{
	`(?:deb|security|snapshot|ftp)\.` + `debian\.org`,
	`(?:proxy|sum)\.` + `golang\.org`,
	`registry\.` + `(?:npmjs\.org|yarnpkg\.com)`,
	`(?:files\.pythonhosted|pypi)\.` + `org`,
	`(?:^|[^\w./-])/wo` + `rk/`,
}, "|"))

// placesNamed lists the lines of a file that name such a place.
func placesNamed(file string, content []byte) (wrong []string) {
	if bytes.IndexByte(content[:min(len(content), 8000)], 0) >= 0 {
		return nil // not text
	}
	for i, line := range bytes.Split(content, []byte("\n")) {
		if at := places.Find(line); at != nil {
			wrong = append(wrong, fmt.Sprintf("%s:%d names %q", file, i+1, strings.TrimSpace(string(at))))
		}
	}
	return wrong
}

var target = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):(?:[^=\n][^\n]*)?$`)

// undocumented lists the Make targets that `make help` would not show, and
// those that are not declared phony.
func undocumented(makefile string) (wrong []string) {
	declared, _, _ := strings.Cut(after(makefile, ".PHONY:"), "\n")
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		if _, help, _ := strings.Cut(m[0], " ## "); strings.TrimSpace(help) == "" {
			wrong = append(wrong, m[1]+" has no ## help")
		}
		if !slices.Contains(strings.Fields(declared), m[1]) {
			wrong = append(wrong, m[1]+" is not .PHONY")
		}
	}
	return wrong
}

func after(s, mark string) string {
	_, rest, _ := strings.Cut(s, mark)
	return rest
}

func TestImportArrowsPointDown(t *testing.T) {
	report(t, wrongArrows(sources(t)))
}

func TestOnlyProcRunsPrograms(t *testing.T) {
	report(t, programRunners(sources(t)))
}

func TestCLibrariesStayInTheirRooms(t *testing.T) {
	report(t, outOfRoom(sources(t)))
}

func TestEveryPackageHasAComment(t *testing.T) {
	report(t, uncommented(sources(t)))
}

func TestSetupInstallsEveryProgram(t *testing.T) {
	out, err := proc.Run(t.Context(), "bash", "setup", "--packages")
	if err != nil {
		t.Fatal(err)
	}
	report(t, uninstalled(proc.Programs, strings.Fields(string(out))))
}

func TestSetupFetchesAGoThatGoModAccepts(t *testing.T) {
	want := version(t, "go.mod", `(?m)^go 1\.(\d+)`)
	if got := version(t, "build/setup", `(?m)^toolchain=go1\.(\d+)`); got < want {
		t.Errorf("build/setup fetches Go 1.%d, go.mod wants 1.%d", got, want)
	}
}

func TestNoFileNamesARegistryOrACheckout(t *testing.T) {
	for _, file := range files(t) {
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		report(t, placesNamed(file, content))
	}
}

func TestEveryMakeTargetIsInTheHelp(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	report(t, undocumented(string(makefile)))
}

func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Error(w)
	}
}
