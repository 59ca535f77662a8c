package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
	"hyper2kvm/agent/api/model"
)

// disks has the commands about the disks that are attached to an appliance.
func (a *app) disks() *cobra.Command {
	c := a.asking("disks [ID]", "List the disks that are attached to an appliance, or show one", cobra.MaximumNArgs(1), func(ctx context.Context, conn *client.Conn, args []string) error {
		if len(args) > 0 {
			return a.showDisk(ctx, conn, args[0])
		}
		return a.listDisks(ctx, conn)
	})
	c.Long = `List the disks that are attached to an appliance and what is on them, or show one. Left
out are those that the appliance itself runs from or uses. Nothing of them is mounted.

A disk is chosen as source, which holds a guest; as target, which a guest's disk is
written to; or as storage, of which one file system is mounted. A migration is then
"migrate disk:ID", and --disk-to 0=disk:ID puts its disk onto another one.

It asks the appliance of --appliance, or the agent of this machine by its socket.`
	c.AddCommand(a.useDisk(), a.asking("release ID", "Take back what a disk was chosen for; it may be pulled out then", oneArg("ID"), func(ctx context.Context, conn *client.Conn, args []string) error {
		return conn.ReleaseDisk(ctx, args[0])
	}))
	return c
}

func (a *app) useDisk() *cobra.Command {
	var as, usage, format string
	var use model.DiskUse
	c := a.asking("use ID --as source|target|storage", "Choose what a disk is for", oneArg("ID"), func(ctx context.Context, conn *client.Conn, args []string) error {
		if as == "" {
			return fmt.Errorf("%w: --as is missing: source, target or storage", errUsage)
		}
		use.As, use.Use, use.Format = model.DiskUseAs(as), model.DiskUseUse(usage), model.DiskUseFormat(format)
		d, err := conn.UseDisk(ctx, args[0], use)
		if err != nil {
			return err
		}
		return a.table(detailed(d))
	})
	c.Flags().StringVar(&as, "as", "", "source, target or storage")
	c.Flags().StringVar(&use.Name, "name", "", "of the storage (default: after its file system's label)")
	c.Flags().IntVar(&use.Partition, "partition", 0, "that the storage is on, if there are several file systems")
	c.Flags().StringVar(&usage, "for", "", "what the storage is for: source (mounted read-only, the default), target or both")
	c.Flags().StringVar(&format, "format", "", "make a file system on the whole disk for a storage: ext4, xfs, ntfs or exfat")
	c.Flags().BoolVar(&use.Erase, "erase", false, "what is on the disk may be lost")
	c.Flags().StringVar(&use.Confirm, "confirm", "", "the disk's ID or serial number once more, where what is on it may be lost")
	return c
}

func (a *app) listDisks(ctx context.Context, conn *client.Conn) error {
	list, err := conn.Disks(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{{"ID", "SIZE", "BUS", "MODEL", "HOLDS", "IS"}}
	for _, d := range list {
		rows = append(rows, []string{d.ID, size(d.Size), d.Bus, d.Model, d.Holds, usedAs(d)})
	}
	return a.table(rows)
}

// usedAs is what a disk was chosen for.
func usedAs(d model.Disk) string {
	text := string(d.Use.As)
	if d.Use.Name != "" {
		text += " " + d.Use.Name
	}
	if !d.Present {
		text += ", not attached"
	}
	return text
}

func (a *app) showDisk(ctx context.Context, conn *client.Conn, id string) error {
	d, err := conn.Disk(ctx, id)
	if err != nil {
		return err
	}
	return a.table(detailed(d))
}

// detailed is all that is known of a disk.
func detailed(d model.Disk) (rows [][]string) {
	add := func(name, text string) {
		if text != "" {
			rows = append(rows, []string{name, text})
		}
	}
	add("id", d.ID)
	add("is", usedAs(d))
	add("holds", d.Holds)
	add("size", size(d.Size))
	add("device", d.Device)
	add("path", d.Path)
	add("bus", d.Bus)
	add("model", d.Model)
	add("serial", d.Serial)
	if d.ReadOnly {
		add("written", "never: it is read-only")
	}
	for _, p := range d.Parts {
		if p.Number > 0 {
			add(fmt.Sprintf("partition %d", p.Number), strings.Join(strings.Fields(strings.Join([]string{size(p.Size), p.FileSystem, p.Label, p.Name}, " ")), " "))
		}
	}
	add("note", d.Note)
	return rows
}
