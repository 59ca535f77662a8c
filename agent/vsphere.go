package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/vcenter"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/vsphere"
	"hyper2kvm/vmware"
)

// vcenter is the group of commands that ask a vCenter or an ESXi host.
func (a *app) vcenter() *cobra.Command {
	c := &cobra.Command{Use: "vsphere", Short: "Ask a vCenter or an ESXi host what there is and what may be done", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.checkServer(), a.vms(), a.watch(), a.assess(), a.thumbprint(), a.role(), a.giveBack(), a.sweep())
	return c
}

// oneOf is a command of the group.
func oneOf(use, short string, args cobra.PositionalArgs, run func(context.Context, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(c *cobra.Command, args []string) error { return run(c.Context(), args) }}
}

func aServer(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: a SERVER is missing: see --help", errUsage)
	}
	return nil
}

// thumbprint shows whom a server says that it is.
func (a *app) thumbprint() *cobra.Command {
	var f vsphereFlags
	c := oneOf("thumbprint SERVER", "Show a server's certificate, to be compared and given with --thumbprint", oneArg("SERVER"), func(ctx context.Context, args []string) error {
		host, _, err := vsphere.ParseServer(args[0])
		if err != nil {
			return err
		}
		cert, err := vmware.Thumbprint(ctx, vmware.Config{Server: host, Proxy: f.proxy})
		if err != nil {
			return vsphere.Asked(err)
		}
		return a.print(fmt.Sprintf("SHA-256 %s\nSHA-1   %s\nsubject %s\nissuer  %s\nuntil   %s\n", cert.SHA256, cert.SHA1, cert.Subject, cert.Issuer, cert.Until.Format(time.DateOnly)))
	})
	c.Flags().StringVar(&f.proxy, "proxy", "", "URL of an HTTP proxy on the way to the server")
	return c
}

// vms lists what can be migrated.
func (a *app) vms() *cobra.Command {
	var f vsphereFlags
	var common flags
	var s vmware.Selection
	c := oneOf("vms SERVER [VM...]", "List VMs with their disks, and what stands against migrating them", aServer, func(ctx context.Context, args []string) error {
		s.VMs = args[1:]
		if a.remote() {
			return a.listVMsThere(ctx, args[0], s, common.output)
		}
		return a.listVMs(ctx, &f, args[0], s, common.output)
	})
	c.Long = `List the VMs of a vCenter or an ESXi host with their sizes and what stands against
migrating them. A VM is meant by its name, inventory path, UUID or MoRef; in names
and paths * stands for any text and ? for one character. With --appliance SERVER is the
name of one in the appliance's settings.`
	f.addServer(c)
	c.Flags().StringArrayVar(&s.Folders, "folder", nil, "only those in a folder, by its name or path (may be repeated)")
	c.Flags().StringArrayVar(&s.Clusters, "cluster", nil, "only those of a cluster (may be repeated)")
	c.Flags().StringArrayVar(&s.Tags, "tag", nil, "only those with a tag, NAME or CATEGORY/NAME (may be repeated)")
	c.Flags().StringVar(&common.output, "output", "text", "text, json or csv")
	return c
}

func (a *app) listVMs(ctx context.Context, f *vsphereFlags, server string, s vmware.Selection, output string) error {
	write, err := a.rowWriter(output)
	if err != nil {
		return err
	}
	s.ReadTags = output != "text" // which has no column of them
	return f.within(ctx, a, server, func(session *vmware.Session) error { return vsphere.Asked(write(session.Rows(ctx, s))) })
}

// rowWriter writes VMs in a form. Rows are written as they come.
func (a *app) rowWriter(output string) (func(iter.Seq2[vmware.Row, error]) error, error) {
	switch output {
	case "text":
		return a.vmTable, nil
	case "json":
		return func(rows iter.Seq2[vmware.Row, error]) error { return vmware.WriteJSON(a.stdout, rows) }, nil
	case "csv":
		return func(rows iter.Seq2[vmware.Row, error]) error { return vmware.WriteCSV(a.stdout, rows) }, nil
	}
	return nil, fmt.Errorf("%w: --output %s: want text, json or csv", errUsage, output)
}

// vmLine is a line of the table of VMs. Its columns have widths of their own: a line is
// shown when it comes, while those after it are still asked for.
func (a *app) vmLine(path, power, guest, cpus, memory, disks, concerns string) error {
	line := fmt.Sprintf("%-40s  %-10s  %-36s  %4s  %9s  %9s  %s", pipeline.Line(path), pipeline.Line(power), pipeline.Line(guest), cpus, memory, disks, concerns)
	return a.print(strings.TrimRight(line, " ") + "\n")
}

func (a *app) vmHeads() error {
	return a.vmLine("VM", "POWER", "GUEST", "CPUS", "MEMORY", "DISKS", "CONCERNS")
}

// vmTable shows VMs to people.
func (a *app) vmTable(rows iter.Seq2[vmware.Row, error]) error {
	if err := a.vmHeads(); err != nil {
		return err
	}
	for row, err := range rows {
		if err != nil {
			return err
		}
		var disks int64
		for _, d := range row.Disks {
			disks += d.Size
		}
		var concerns []string
		for _, c := range row.Concerns {
			if c.Level != vmware.Info {
				concerns = append(concerns, string(c.Level)+" "+c.Code)
			}
		}
		if err := a.vmLine(row.Path, string(row.Power), row.GuestName, strconv.Itoa(row.CPUs), size(row.Memory), size(disks), strings.Join(concerns, ", ")); err != nil {
			return err
		}
	}
	return nil
}

// role writes what a user must be allowed.
func (a *app) role() *cobra.Command {
	var purposes []string
	var form string
	name := "hyper2kvm"
	c := oneOf("role", "Write the least role that a user needs, to be imported", noArgs, func(context.Context, []string) error {
		list, err := purposesOf(purposes)
		if err != nil {
			return err
		}
		return vmware.WriteRole(a.stdout, vmware.RoleForm(form), name, list...)
	})
	c.Flags().StringSliceVar(&purposes, "for", nil, "only what these need: "+vcenter.PurposeNames())
	c.Flags().StringVar(&form, "form", string(vmware.RoleJSON), "json, or a script for govc or powercli")
	c.Flags().StringVar(&name, "name", name, "of the role")
	return c
}

// purposesOf are those that the flag called for names.
func purposesOf(names []string) ([]vmware.Purpose, error) {
	list, err := vcenter.Purposes(names)
	if err != nil {
		err = fmt.Errorf("%w: --for: %w", errUsage, err)
	}
	return list, err
}

// giveBack takes back what a migration left changed.
func (a *app) giveBack() *cobra.Command {
	var f vsphereFlags
	c := oneOf("restore FOLDER", "Take back what a migration has changed in vSphere", oneArg("FOLDER"), func(ctx context.Context, args []string) error {
		return a.takeBack(ctx, &f, args[0])
	})
	c.Long = `Take back everything that the migration in a folder has changed in vSphere and that is
not as it was found: snapshots, clones, attached disks, marks. Its VM is powered on
again if it ran. It may be given again.`
	f.addServer(c)
	return c
}

func (a *app) takeBack(ctx context.Context, f *vsphereFlags, folder string) error {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	server, err := vsphere.ServerOf(folder)
	if err != nil {
		return err
	}
	c, err := f.server(a, server, "")
	if err != nil {
		return err
	}
	if err := a.unplug(folder); err != nil {
		return err
	}
	names, err := vsphere.Restore(ctx, vsphere.Config{Server: c, Folder: folder, Log: a.log()})
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return a.print("nothing was to be taken back\n")
	}
	return a.print("as before: " + strings.Join(names, ", ") + "\n")
}

// unplug has a migration's result come up without its network, if there is one: what is
// taken back may be that its source is off.
func (a *app) unplug(folder string) error {
	r, err := pipeline.Reopen(pipeline.Config{Folder: folder, Version: version, Log: a.log()})
	if errors.Is(err, pipeline.ErrRecord) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(r.Unplug(), r.Close())
}
