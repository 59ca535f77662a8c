// Guest builds a test guest, or takes it from the cache, and prints where its
// files are.
//
//	go run ./build/guest [--out DIR] [NAME]
//
// Without a name it lists the recipes. With --out it copies VMX and VMDKs there.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"hyper2kvm/testers/guests"
)

func main() {
	out := flag.String("out", "", "copy the guest's files into this `folder`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, name string) error {
	if name == "" {
		for _, r := range guests.All {
			fmt.Printf("%s\t%s\t%q\n", r.Name, r.Release, r.Description)
		}
		return nil
	}
	recipe, err := guests.Named(name)
	if err != nil {
		return err
	}
	guest, err := guests.Build(ctx, recipe, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	for _, file := range append([]string{guest.VMX}, guest.VMDKs...) {
		if out != "" {
			if file, err = copyInto(out, file); err != nil {
				return err
			}
		}
		fmt.Println(file)
	}
	return nil
}

func copyInto(dir, file string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	from, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer from.Close()
	name := filepath.Join(dir, filepath.Base(file))
	to, err := os.Create(name)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		return "", err
	}
	return name, to.Close()
}
