package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/firstboot"
)

// firstBoot is what the appliance runs before its network and its agent.
func (a *app) firstBoot() *cobra.Command {
	var root string
	c := &cobra.Command{
		Use: "first-boot", Short: "Give this appliance what its seed says: name, network, whom to trust", Args: noArgs, Hidden: true,
		Long: `Give this appliance what it is told by VMware, a seed volume, the kernel command line
and its console: its name, its network, whom to trust. It runs early in each boot, and
writes what systemd, sshd and the agent read. What is wrong is told, and in
/` + firstboot.ReportPath + `; what is right is done nevertheless. See docs/appliance.md.`,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := firstboot.Boot{Root: root, GuestInfo: firstboot.VMware(root)}.Run(c.Context())
			for _, problem := range r.Problems {
				fmt.Fprintln(a.stderr, problem)
			}
			if err != nil {
				return err
			}
			return a.print(r.Network + "\n")
		},
	}
	c.Flags().StringVar(&root, "root", "/", "folder below which all is read and written")
	return c
}
