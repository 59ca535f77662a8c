// Command hyper2kvm moves virtual machines from VMware to KVM and proves that
// they boot. It is the appliance's agent and the tool for people in one.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/problem"
	"hyper2kvm/agent/vcenter"
	"hyper2kvm/agent/worker"
	"hyper2kvm/pipeline/proc"
)

// version is set by the build: build/version.
var version = "unversioned"

func main() {
	debug.SetGCPercent(garbage)
	if status, played := worker.Serve(vcenter.Guests{}); played {
		os.Exit(status)
	}
	ctx, stop := interruptible()
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// garbage is how much of the memory in use may be garbage besides, in percent. Guests'
// files are read whole and let go, and an appliance has little memory: Go's own choice
// of 100 takes a fifth more of it, and is no quicker.
const garbage = 50

// errInterrupted is Ctrl-C or a polite kill; what was done stays resumable.
var errInterrupted = errors.New("interrupted; run the same command again to go on")

// interruptible ends its context at the first signal. The second one ends the
// program at once, which is safe too.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals)
		cancel(errInterrupted)
	}()
	return ctx, func() { cancel(nil) }
}

// run executes one command line and returns its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "hyper2kvm: "+problem.Sentence(err))
	}
	return exitStatus(err)
}

// app is what all sub-commands share.
type app struct {
	stdout, stderr io.Writer
	stdin          *bufio.Reader // nil until a line of it is asked for
	verbose        bool
	way            way
}

func (a *app) log() *slog.Logger {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	a := &app{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "hyper2kvm",
		Short: "Move virtual machines from VMware to KVM and prove that they boot",
		Long: `Move virtual machines from VMware to KVM and prove that they boot.

Every migration runs FETCH, FLATTEN, INSPECT, PLAN, FIX, CONVERT, TEST. The
source is never written. A SOURCE is a VMX file or a disk: VMDK, qcow2, raw
data in a file that ends in .raw or .img, or a block device; or a VM in vSphere:
vsphere://SERVER/VM, see hyper2kvm vsphere --help.

` + applianceHelp + `
` + exitHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: there is no command %q: see hyper2kvm --help", errUsage, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, args []string) error {
			c.SetContext(proc.WithLogger(c.Context(), a.log()))
			return a.place(c, args)
		},
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log every decision and program to standard error")
	a.addAppliance(root)
	root.AddCommand(a.migrations()...)
	root.AddCommand(a.migrate(), a.rehearse(), a.inspect(), a.plan(), a.apply(), a.undo(), a.verify(), a.test())
	root.AddCommand(a.serve(), a.config(), a.code(), a.restore(), a.fleet(), a.vcenter(), a.probe(), a.versionCommand())
	root.AddCommand(a.disks(), a.update(), a.usbWrite(), a.seed(), a.image(), a.firstBoot(), a.dashboard())
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the program's version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			goVersion := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				goVersion = info.GoVersion
			}
			_, err := fmt.Fprintf(a.stdout, "hyper2kvm %s (%s)\n", version, goVersion)
			return err
		},
	}
}
