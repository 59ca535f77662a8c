package build

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hyper2kvm/agent/update"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/proc"
)

// printed is what build/version of a tree prints.
func printed(t *testing.T, tree string, args ...string) string {
	t.Helper()
	return ran(t, "bash", append([]string{filepath.Join(tree, "build/version")}, args...)...)
}

func ran(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := proc.Run(t.Context(), program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// aVersion is what updates take: see agent/update.
var aVersion = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.^~-]{0,63}$`)

func TestAVersionIsOneThatUpdatesTake(t *testing.T) {
	this, next := printed(t, root), printed(t, root, "--next")
	if !aVersion.MatchString(this) || !strings.HasPrefix(next, this) || next == this {
		t.Errorf("build/version prints %q, and %q as the next", this, next)
	}
}

// repository is one with the programs of build that are named, and commits.
func repository(t *testing.T, programs ...string) (tree string) {
	t.Helper()
	if _, err := proc.Look("git"); err != nil {
		guesttest.Missing(t, err.Error())
	}
	tree = t.TempDir()
	git(t, tree, "init", "-q")
	if err := os.Mkdir(filepath.Join(tree, "build"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range programs {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, "build", name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	git(t, tree, "add", ".")
	for range 3 {
		commit(t, tree)
	}
	return tree
}

func commit(t *testing.T, tree string) {
	t.Helper()
	git(t, tree, "commit", "-q", "--allow-empty", "-m", "x")
}

func git(t *testing.T, tree string, args ...string) string {
	t.Helper()
	return ran(t, "git", append([]string{"-C", tree, "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"}, args...)...)
}

// shallow is a clone with the last commit alone.
func shallow(t *testing.T, tree string) (clone string) {
	t.Helper()
	clone = t.TempDir()
	ran(t, "git", "clone", "-q", "--depth", "1", "file://"+tree, clone)
	return clone
}

// A shallow clone's commits are not all that there are.
func TestAShallowClonesVersionIsEarlierThanAllOthers(t *testing.T) {
	tree := repository(t, "version")
	commits := strings.Fields(git(t, tree, "rev-list", "HEAD"))
	first := printed(t, tree)
	if want := "0.0-3-g" + git(t, tree, "describe", "--always"); first != want {
		t.Errorf("of 3 commits it is %q, want %q", first, want)
	}
	clone := shallow(t, tree)
	got := printed(t, clone)
	if want := "0.0~shallow-g" + commits[0][:7]; got != want || !aVersion.MatchString(got) {
		t.Errorf("of a shallow clone it is %q, want %q", got, want)
	}
	if update.Compare(got, "0.0-0-gunknown") >= 0 || update.Compare(printed(t, clone, "--next"), first) >= 0 {
		t.Errorf("%s is not earlier than others", got)
	}

	git(t, tree, "tag", "v1.2")
	if got := printed(t, shallow(t, tree)); got != "1.2" {
		t.Errorf("of a shallow clone with a tag it is %q, want 1.2", got)
	}
	commit(t, tree)
	clone = shallow(t, tree)
	if got := printed(t, clone); !strings.HasPrefix(got, "0.0~shallow-g") {
		t.Errorf("of a shallow clone behind a tag it is %q", got)
	}
	git(t, clone, "fetch", "-q", "--unshallow", "--tags")
	if got, want := printed(t, clone), printed(t, tree); got != want || !strings.HasPrefix(got, "1.2-1-g") {
		t.Errorf("with all commits it is %q, want %q", got, want)
	}
}
