// Appliance writes the forms that the appliance is used in:
//
//	go run ./build/appliance --version VERSION [--keys KEYS] [--only FORM] RAW FOLDER
//
//	FOLDER/hyper2kvm.raw.zst         for a USB stick
//	FOLDER/hyper2kvm.ova             for vSphere
//	FOLDER/hyper2kvm.qcow2           for QEMU and libvirt, with hyper2kvm.xml
//	FOLDER/hyper2kvm-VERSION.update  for an appliance that runs, if there are keys
//	FOLDER/SHA256SUMS                of them all
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
)

func main() {
	version := flag.String("version", "unknown", "the image's `version`")
	keys := flag.String("keys", "", "the `folder` with the key that updates are signed with")
	only := flag.String("only", "", "write this `form` alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: appliance [--version VERSION] [--keys KEYS] [--only FORM] RAW FOLDER")
		os.Exit(2)
	}
	if err := run(ctx, forms{version: *version, keys: *keys, only: *only, raw: flag.Arg(0), folder: flag.Arg(1)}); err != nil {
		fmt.Fprintln(os.Stderr, "appliance:", err)
		os.Exit(1)
	}
}

// forms are written from a raw image into a folder.
type forms struct {
	version, raw, folder string
	keys, only           string
}

// form is one of them, and how it is written.
type form struct {
	name  string
	write func(context.Context, string) error
}

func (f forms) list() []form {
	all := []form{{"hyper2kvm.raw.zst", f.stick}, {"hyper2kvm.ova", f.ova}, {"hyper2kvm.qcow2", f.qcow2}, {"hyper2kvm.xml", f.domain}}
	if f.keys != "" {
		all = append(all, form{"hyper2kvm-" + f.version + ".update", f.update})
	}
	return slices.DeleteFunc(all, func(one form) bool { return f.only != "" && one.name != f.only })
}

func run(ctx context.Context, f forms) error {
	if err := os.MkdirAll(f.folder, 0o755); err != nil {
		return err
	}
	if len(f.list()) == 0 {
		return fmt.Errorf("there is no form %s", f.only)
	}
	var written []string
	for _, form := range f.list() {
		path := filepath.Join(f.folder, form.name)
		part := path + ".part"
		if err := os.RemoveAll(part); err != nil {
			return err
		}
		if err := form.write(ctx, part); err != nil {
			return fmt.Errorf("%s: %w", form.name, err)
		}
		if err := os.Rename(part, path); err != nil {
			return err
		}
		written = append(written, form.name)
	}
	return f.sums(written)
}
