package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hyper2kvm/agent/disks"
	"hyper2kvm/agent/usb"
)

func (a *app) usbWrite() *cobra.Command {
	var yes, force bool
	c := &cobra.Command{
		Use: "usb-write IMAGE DEVICE", Short: "Write the appliance's image onto a USB stick, and read it back", Args: usbArgs,
		Long: `Write the appliance's image, hyper2kvm.raw.zst or what is in it, onto a whole USB stick,
such as /dev/sdb, and read back that it is there. Everything that is on the stick is
lost: it asks before. A stick that is pulled out meanwhile does not start.`,
		RunE: func(c *cobra.Command, args []string) error {
			i, err := usb.OpenImage(args[0])
			if err != nil {
				return err
			}
			s, err := usb.OpenStick(args[1], disks.ThisMachine())
			if err != nil {
				return err
			}
			if !s.Pluggable() && !force {
				return fmt.Errorf("%w: %s is no stick that can be plugged out: write to it with --force if it is the right one", usb.ErrStick, s)
			}
			if !yes {
				if err := a.confirmed(s); err != nil {
					return err
				}
			}
			return a.onto(c.Context(), i, s)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&force, "force", false, "the device may be one that is built in")
	return c
}

func usbArgs(_ *cobra.Command, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: usb-write takes an IMAGE and a DEVICE: see hyper2kvm usb-write --help", errUsage)
	}
	return nil
}

// confirmed has somebody type the name of the device that is written to.
func (a *app) confirmed(s *usb.Stick) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return fmt.Errorf("%w: what is on %s will be lost: say --yes, or run it on a terminal to be asked", errUsage, s)
	}
	name := filepath.Base(s.Path)
	fmt.Fprintf(a.stderr, "Everything on %s will be lost. Type %s to go on: ", s, name)
	if line, err := a.lines().ReadString('\n'); err != nil || strings.TrimSpace(line) != name {
		return fmt.Errorf("%w: nothing was written", usb.ErrStick)
	}
	return nil
}

func (a *app) onto(ctx context.Context, i *usb.Image, s *usb.Stick) error {
	told := time.Now()
	tell := func(verified bool, done, total int64) {
		if time.Since(told) < quiet && done < total {
			return
		}
		told = time.Now()
		what := "written"
		if verified {
			what = "compared"
		}
		fmt.Fprintf(a.stderr, "%s: %d of %d MiB\n", what, done>>20, total>>20)
	}
	if err := usb.Write(ctx, i, s, tell); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s is the appliance: it was written, and reads the same\n", s)
	return err
}
