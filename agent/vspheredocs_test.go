package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestTheDocsNameEveryFlagOfVSphere's commands, and of sources that are VMs there.
func TestTheDocsNameEveryFlagOfVSphere(t *testing.T) {
	var docs strings.Builder
	for _, name := range []string{"vsphere.md", "agent.md"} {
		text, err := os.ReadFile("../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		docs.Write(text)
	}
	all := &cobra.Command{}
	new(vsphereFlags).addReading(all)
	new(vsphereFlags).addMoving(all)
	flags := []*pflag.FlagSet{all.Flags()}
	for _, c := range (&app{}).vcenter().Commands() {
		flags = append(flags, c.LocalNonPersistentFlags())
	}
	seen := 0
	for _, set := range flags {
		set.VisitAll(func(f *pflag.Flag) {
			seen++
			if !strings.Contains(docs.String(), "--"+f.Name) {
				t.Errorf("--%s is not in the docs", f.Name)
			}
		})
	}
	if seen < 30 {
		t.Errorf("%d flags were looked for", seen)
	}
}
