// Bench measures whole offline migrations, FETCH to CONVERT, of the same real
// guest: by hyper2kvm with each of its engines, and by Debian's virt-v2v under
// the same accelerator.
//
//	go run ./build/bench                   hyper2kvm, beside the kept run of virt-v2v
//	go run ./build/bench table GO FILE     the same into a file, with what "go test -bench" wrote to GO
//	go run ./build/bench virt-v2v [FORM]   run virt-v2v and keep what it took, of the guest
//	                                       in one form or in all: exported, datastore
//
// virt-v2v takes minutes to an hour where the machine has no KVM, so its run is
// kept, for the guest's digest and this machine, and compared with later runs of
// ours. Figures are printed; only their ratios are asserted.
//
// Cost: wall time, CPU time of all processes, and memory. Phase: a part of a
// run by its own name: a stage of ours, a message of virt-v2v's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/testers/guests"
)

// Guests: virt-v2v dies on the sample guest, whose fstab has by-path names; its
// twin has UUIDs and is the same otherwise.
const (
	sample = "web01"
	twin   = "web02"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	scratch, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	b := bench{scratch: scratch, out: os.Stdout}
	if b.accel, err = accel.Probe(ctx); err != nil {
		return err
	}
	if b.sample, err = build(ctx, sample); err != nil {
		return err
	}
	if b.twin, err = build(ctx, twin); err != nil {
		return err
	}
	switch {
	case len(args) == 0:
		return b.ours(ctx)
	case len(args) == 3 && args[0] == "table":
		return b.table(ctx, args[1], args[2])
	case len(args) == 1 && args[0] == "virt-v2v":
		return errors.Join(b.keepV2V(ctx, exported), b.keepV2V(ctx, datastore))
	case len(args) == 2 && args[0] == "virt-v2v" && (args[1] == exported || args[1] == datastore):
		return b.keepV2V(ctx, args[1])
	}
	return errors.New("usage: bench [table GO FILE | virt-v2v [exported | datastore]]")
}

func build(ctx context.Context, name string) (guests.Guest, error) {
	recipe, err := guests.Named(name)
	if err != nil {
		return guests.Guest{}, err
	}
	return guests.Build(ctx, recipe, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// bench is what is measured, and with what.
type bench struct {
	scratch      string
	out          io.Writer
	accel        accel.Choice
	sample, twin guests.Guest
}

// least are the ratios that ours must reach, virt-v2v's wall and CPU time by
// ours: what makes the difference must not be lost unnoticed.
var least = map[string]float64{"direct": 25, "libguestfs": 6}

// most is how much memory all our processes may need together, in bytes, whatever
// the size of the disk: an appliance has little, and moves several guests at a time.
const most = 250 << 20

// ours migrates the twin with both engines, the twin on a disk of a TiB and with
// many disks and the sample with the quicker one, and compares the first with
// virt-v2v's kept run.
func (b bench) ours(ctx context.Context) error {
	what, _, _ := strings.Cut(b.twin.Description, "\n")
	fmt.Fprintf(b.out, "Guest %s: %d bytes of VMDK, %s.\n\n", b.twin.Name, b.twin.Bytes, what)
	var failed error
	for _, form := range []string{exported, datastore} {
		err := b.inForm(ctx, form)
		if errors.Is(err, errLost) {
			failed = errors.Join(failed, err)
		} else if err != nil {
			return err
		}
	}
	huge, err := b.onHugeDisk(ctx)
	if err != nil {
		return err
	}
	many, err := b.withDataDisks(ctx)
	if err != nil {
		return err
	}
	for _, run := range []struct {
		title string
		guest guests.Guest
	}{{"on a disk of 1 TiB", huge}, {"with seven data disks", many}, {"the guest with by-path names", b.sample}} {
		c, err := b.migrate(ctx, run.guest, "direct")
		if err != nil {
			return err
		}
		c.print(b.out, "### hyper2kvm, engine direct, "+run.title)
		failed = errors.Join(failed, c.modest(run.title))
	}
	return failed
}

// Forms of the guest's disk.
const (
	exported  = "exported"  // stream-optimized, as an OVA or an export has it: all is compressed
	datastore = "datastore" // flat, as a datastore has it
)

// inForm migrates the twin, its disk in a form, with both engines, and compares that
// with virt-v2v's kept run, and with a bare copy.
func (b bench) inForm(ctx context.Context, form string) error {
	g, err := b.form(ctx, form)
	if err != nil {
		return err
	}
	kept, known, err := b.keptV2V(form)
	if err != nil {
		return err
	}
	alone, err := b.copyAlone(ctx, g)
	if err != nil {
		return err
	}
	alone.print(b.out, "### qemu-img, the copy of the disk alone, as "+form)
	var failed error
	for _, engine := range []string{"direct", "libguestfs"} {
		c, err := b.migrate(ctx, g, engine)
		if err != nil {
			return err
		}
		c.print(b.out, "### hyper2kvm, engine "+engine+", disk as "+form)
		fmt.Fprintf(b.out, "That is %.1f times the wall time and %.1f times the CPU time of qemu-img's copy alone.\n\n", ratio(c.Wall, alone.Wall), ratio(c.CPU, alone.CPU))
		failed = errors.Join(failed, c.modest("engine "+engine))
		if known {
			failed = errors.Join(failed, c.against(b.out, "engine "+engine, kept.Cost, least[engine]))
		}
	}
	if !known {
		fmt.Fprintf(b.out, "virt-v2v was not run on this machine with this guest yet, its disk as %s: make bench-virt-v2v\n\n", form)
		return failed
	}
	kept.Cost.print(b.out, fmt.Sprintf("### %s, disk as %s, kept from %s", kept.Version, form, kept.When.Format("2006-01-02 15:04")))
	fmt.Fprintf(b.out, "virt-v2v of the guest with by-path names: %s\n\n", kept.Sample)
	return failed
}

// form is the twin with its disk in a form.
func (b bench) form(ctx context.Context, form string) (guests.Guest, error) {
	if form == exported {
		return b.twin, nil
	}
	dir, err := b.folder(form)
	if err != nil {
		return guests.Guest{}, err
	}
	return b.converted(ctx, dir, b.twin.VMDK, "vmdk", "monolithicFlat")
}

// folder is a fresh one for a run's result.
func (b bench) folder(name string) (string, error) {
	dir := filepath.Join(b.scratch, name)
	return dir, os.Mkdir(dir, 0o700)
}
