package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/firstboot"
)

// seed makes a seed volume.
func (a *app) seed() *cobra.Command {
	var output, format string
	var force bool
	said := newSeedFlags()
	c := &cobra.Command{
		Use: "seed", Short: "Make a seed volume, from which an appliance takes its settings at its first boot", Args: noArgs,
		Long: `Make a seed volume: an image of a small file system that tells an appliance its name,
its network and whom to trust. Give it to the appliance as a CD or a disk, or copy it to
a USB stick. It is checked as the appliance will read it. See docs/appliance.md.

What it says holds as long as the appliance sees it. What is secret in it can be read by
whoever has it.`,
		RunE: func(c *cobra.Command, _ []string) error {
			values, err := said.values()
			if err != nil {
				return err
			}
			s, err := firstboot.NewSeed(values)
			if err != nil {
				return err
			}
			return s.Write(c.Context(), output, format, force)
		},
	}
	said.add(c)
	c.Flags().StringVarP(&output, "output", "o", "seed.iso", "file that the image is written to")
	c.Flags().StringVar(&format, "format", firstboot.ISO, "format of the image: iso or fat")
	c.Flags().BoolVar(&force, "force", false, "replace the file if it is there already")
	return c
}

// seedFlags are an appliance's settings as flags, by key.
type seedFlags struct {
	texts map[string]*string
	lists map[string]*[]string
}

func newSeedFlags() seedFlags { return seedFlags{map[string]*string{}, map[string]*[]string{}} }

func (s seedFlags) add(c *cobra.Command) {
	for _, f := range firstboot.Flags() {
		switch {
		case f.List:
			s.lists[f.Key] = c.Flags().StringArray(f.Name, nil, usage(f)+" (may be repeated)")
		default:
			s.texts[f.Key] = c.Flags().String(f.Name, "", usage(f))
		}
	}
}

// usage is a flag's, in the form of the others.
func usage(f firstboot.Flag) string {
	text := strings.TrimSuffix(f.Description, ".")
	if !strings.HasPrefix(text, "IP") {
		text = strings.ToLower(text[:1]) + text[1:]
	}
	if f.File {
		return "`FILE` of it: " + text
	}
	return text
}

// values are what the flags say, with the contents of the files that they name.
func (s seedFlags) values() (map[string]string, error) {
	values := map[string]string{}
	for _, f := range firstboot.Flags() {
		if f.List {
			values[f.Key] = strings.Join(*s.lists[f.Key], " ")
			continue
		}
		text := *s.texts[f.Key]
		if f.File && text != "" {
			content, err := readSeedFile(text)
			if err != nil {
				return nil, fmt.Errorf("%w: --%s: %w", firstboot.ErrSeed, f.Name, err)
			}
			text = content
		}
		values[f.Key] = text
	}
	return values, nil
}

// readSeedFile reads a file that fits a seed; that it is too large is told by its key.
func readSeedFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const most = 1 << 20
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil && len(text) == 0 {
		return "", fmt.Errorf("%s is empty", name)
	}
	return string(text), err
}
