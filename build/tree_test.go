package build

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is one Go file: its folder within the repository, and what it says.
type source struct {
	folder  string
	name    string
	imports []string
	comment string // package comment
}

func (s source) path() string { return path.Join(s.folder, s.name) }
func (s source) test() bool   { return strings.HasSuffix(s.name, "_test.go") }

// notOurs are folders whose content nobody wrote here.
var notOurs = []string{".git", "node_modules", "bin", "dist", "third_party"}

// files are the regular files of the tree, by their path within it.
func files(t *testing.T) (found []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // another test's scratch file went away
			return nil
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(notOurs, d.Name()):
			return fs.SkipDir
		case d.Type().IsRegular():
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// sources are the tree's Go files under every build tag, tests included.
func sources(t *testing.T) (parsed []source) {
	t.Helper()
	for _, file := range files(t) {
		if path.Ext(file) != ".go" || strings.Contains(file, "testdata/") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, read(file, tree))
	}
	if len(parsed) == 0 {
		t.Fatal("no Go file was found")
	}
	return parsed
}

func read(file string, tree *ast.File) source {
	s := source{folder: path.Dir(file), name: path.Base(file), comment: tree.Doc.Text()}
	for _, spec := range tree.Imports {
		name, _ := strconv.Unquote(spec.Path.Value) // the parser accepted it
		s.imports = append(s.imports, name)
	}
	return s
}

func version(t *testing.T, file, pattern string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(pattern).FindSubmatch(content)
	if m == nil {
		t.Fatalf("%s: nothing matches %s", file, pattern)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
