package vmware

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestTheDocsHaveTheTableOfConcerns(t *testing.T) {
	var want bytes.Buffer
	writeConcerns(t, &want)
	docsHave(t, "vsphere-concerns.md", want.Bytes())
}

// writeConcerns writes the page of the docs.
func writeConcerns(t *testing.T, w *bytes.Buffer) {
	t.Helper()
	w.WriteString(`# What may stand against migrating a VM

This page is made of the checks in ` + "`vmware/concern*.go`" + ` by ` + "`make generate`" + `. A blocker forbids
the migration, before anything is changed; a warning and an info do not. The second column
is what is said, of one VM. A VM of which the record does not tell what a check asks for has
` + "`vsphere/unknown`" + `.

`)
	for _, level := range []Level{Blocker, Warning, Info} {
		fmt.Fprintf(w, "## %s\n\n| code | says, for example | what to do |\n|---|---|---|\n", level)
		for _, c := range checks {
			if c.level == level {
				fmt.Fprintf(w, "| `%s` | %s | %s |\n", c.code, cell(example(t, c)), cell(c.try))
			}
		}
		w.WriteString("\n")
	}
	w.Truncate(w.Len() - 1)
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// example is what a check says of a VM that it is about.
func example(t *testing.T, c check) string {
	t.Helper()
	for _, spoil := range spoils[c.code] {
		for _, live := range []bool{false, true} {
			vm, a := sound(), Around{Live: live}
			a.Add(vm)
			spoil(&vm, &a)
			if texts := c.see(vm, a); len(texts) > 0 {
				return texts[0]
			}
		}
	}
	t.Errorf("%s, %s: no VM is known that it is said of", c.code, c.level)
	return ""
}
