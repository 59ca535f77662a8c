package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/pipeline"
)

func (a *app) verify() *cobra.Command {
	var f flags
	var source bool
	c := &cobra.Command{
		Use: "verify FOLDER", Short: "Read converted disks and compare them with what was copied", Args: oneArg("FOLDER"),
		Long: `Read a migration's converted disks whole and compare every piece with the digest
that was kept when it was copied. With --against-source the source's disks are
read too and compared with what was read of them then: all that no fixer changed
is in the result as it is in the source.

A guest that was started from a converted disk has written to it, so verify
before that.`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if a.remote() {
				return a.verifyThere(c.Context(), f, args[0], source)
			}
			return a.reopen(args[0], f, func(r *pipeline.Run) error {
				list, err := r.Verify(c.Context(), source)
				return errors.Join(err, a.verified(f.output, list))
			})
		},
	}
	c.Flags().BoolVar(&source, "against-source", false, "read the source's disks too")
	f.addLimit(c)
	f.addOutput(c)
	return c
}

func (a *app) verified(output string, list []pipeline.Verified) error {
	if output == "json" {
		text, err := json.MarshalIndent(list, "", "  ")
		if err != nil {
			return err
		}
		return a.print(string(text) + "\n")
	}
	var b strings.Builder
	for _, v := range list {
		state := "as it was copied"
		if v.Differs != "" {
			state = "DIFFERS"
		}
		fmt.Fprintf(&b, "%-16s %s of %s read  %s\n", state, size(v.Read), size(v.Size), v.Path)
	}
	return a.print(b.String())
}
