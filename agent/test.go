package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline"
)

func (a *app) test() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "test FOLDER|SOURCE", Short: "Boot a converted guest, or any disk as it is, and judge what is seen", Args: oneArg("FOLDER, SOURCE or MIGRATION"),
		Long: `Boot a throwaway overlay and judge what is seen. Given the folder of a migration,
its converted disks are tested again. Given a source, that is booted as it is,
unfixed: on KVM's hardware, or with --hardware vmware on PVSCSI and VMXNET3, to
tell whether a guest was healthy before its migration. With --appliance a SOURCE is
STORAGE:PATH, and anything else the ID or the name of a migration.

With --with libvirt the machine is not run by QEMU alone: libvirt validates and
starts the domain that was emitted, as a transient one under another name, with
throwaway disks and networks that lead nowhere.`,
		RunE: func(c *cobra.Command, args []string) error {
			if f.hardware != "kvm" && f.hardware != pipeline.OnVMware {
				return fmt.Errorf("%w: --hardware %s: want kvm or vmware", errUsage, f.hardware)
			}
			if f.hardware == pipeline.OnVMware && f.with == pipeline.WithLibvirt {
				return fmt.Errorf("%w: --hardware vmware is for a test with qemu: libvirt runs the emitted domain alone", errUsage)
			}
			if err := f.check(); err != nil {
				return err
			}
			switch {
			case a.remote() && isPlace(args[0]):
				return a.migrateThere(c.Context(), f, model.ModeTest, args[0], nil)
			case a.remote():
				return a.testThere(c.Context(), f, args[0])
			}
			path, err := existing(args[0])
			if err != nil {
				return err
			}
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				return a.retest(c.Context(), f, args[0])
			}
			asIs := "the guest is tested as it is"
			o := pipeline.Options{Source: args[0], Engine: f.engine, Skip: map[string]string{"plan": asIs, "fix": asIs, "convert": asIs}}
			if f.hardware == pipeline.OnVMware {
				o.Hardware = pipeline.OnVMware
			}
			return a.inFolder(c.Context(), f, "-test", o)
		},
	}
	c.Flags().StringVar(&f.to, "to", ".", "folder in which the test's own folder is made")
	c.Flags().StringVar(&f.hardware, "hardware", "kvm", "kvm or vmware")
	f.addEngine(c)
	f.addFolders(c)
	f.addKeys(c)
	f.addTester(c, "with")
	c.Flags().StringVar(&f.remote.name, "name", "", "with --appliance, of a SOURCE: the name of the test (default: the source's)")
	c.Flags().BoolVar(&f.remote.detach, "detach", false, "with --appliance, of a SOURCE: print the test's ID and do not wait for its end")
	return c
}

func (a *app) retest(ctx context.Context, f flags, folder string) error {
	return a.reopen(folder, f, func(r *pipeline.Run) error {
		with, connect := f.tester()
		err := r.Retest(ctx, with, connect)
		err = errors.Join(err, r.WriteReport(context.WithoutCancel(ctx)))
		a.summary(r, err)
		return err
	})
}

func (a *app) undo() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: "undo FOLDER", Short: "Take the changes back on a migration's converted disks", Args: oneArg("FOLDER"),
		Long: `Restore content, owner, mode, attributes and times of every file that the
migration changed, on its converted disks. The source was never changed.`,
		RunE: func(c *cobra.Command, args []string) error {
			if a.remote() {
				return a.undoThere(c.Context(), args[0])
			}
			return a.reopen(args[0], f, func(r *pipeline.Run) error {
				if err := r.UndoAll(c.Context()); err != nil {
					return err
				}
				if err := r.WriteReport(context.WithoutCancel(c.Context())); err != nil {
					return err
				}
				return a.print(undone(r.Migration))
			})
		},
	}
	f.addKeys(c)
	return c
}

// undone tells of a migration whose changes were taken back.
func undone(m *pipeline.Migration) string {
	text := fmt.Sprintf("%s: %d changes taken back on %d disks\n", m.Name, len(m.Undo), len(m.Disks))
	for _, grown := range m.Grown() {
		text += fmt.Sprintf("  %-12s%s\n", "size stays", grown)
	}
	return text
}

// reopen works on the finished migration in a folder, with the keys and the limits
// of flags.
func (a *app) reopen(folder string, f flags, work func(*pipeline.Run) error) (err error) {
	folder, err = filepath.Abs(folder)
	if err != nil {
		return err
	}
	limits, err := f.speed()
	if err != nil {
		return err
	}
	keys, err := f.keyring(a)
	if err != nil {
		return err
	}
	r, err := pipeline.Reopen(pipeline.Config{Folder: folder, Version: version, Log: a.log(), Tell: newProgress(a.stderr).tell, Keys: keys, Limits: limits})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return work(r)
}
