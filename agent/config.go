package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/batch"
	"hyper2kvm/agent/config"
)

// config is the settings of an appliance, and files of migrations, for people and
// their editors.
func (a *app) config() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "config", Short: "Check an appliance's settings and files of migrations, and show what they say",
		Long: `Settings are YAML files over one another: maps merge, lists replace, null removes.
They are ` + config.File + ` and ` + config.Folder + `/*.yaml, where those are there, or
what --config names. They hold no secrets, only names of secrets.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: config has no command %q: see hyper2kvm config --help", errUsage, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.PersistentFlags().StringArrayVar(&files, "config", nil, "file of settings, or a folder of *.yaml files (may be repeated; each lies over the one before)")
	c.AddCommand(
		part("check", "Tell whether settings can be used", noArgs, func([]string) error {
			_, err := config.Load(files...)
			return err
		}),
		part("dump", "Print the settings, each with the file and line that says it", noArgs, func([]string) error {
			return a.dump(files)
		}),
		part("migrations FILE...", "Print the migrations that files ask for, with all that is laid over them, as JSON", atLeastOneFile, func(args []string) error {
			b, err := batch.Load("", args...)
			if err != nil {
				return err
			}
			return a.json(b.Migrations)
		}),
		part("schema [settings|migrations]", "Print the JSON Schema of such files", atMostOneKind, a.schema),
	)
	return c
}

// part is a command of a command's.
func part(use, short string, args cobra.PositionalArgs, run func([]string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(_ *cobra.Command, args []string) error { return run(args) }}
}

func atLeastOneFile(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: migrations takes one FILE or more: see hyper2kvm config migrations --help", errUsage)
	}
	return nil
}

func atMostOneKind(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%w: %q is one argument too many", errUsage, args[1])
	}
	return nil
}

func (a *app) dump(files []string) error {
	settings, err := config.Load(files...)
	if err != nil {
		return err
	}
	text, err := settings.Dump()
	if err != nil {
		return err
	}
	return a.print(text)
}

// schemas are of the files that people write.
var schemas = map[string]func() ([]byte, error){"settings": config.Schema, "migrations": batch.Schema}

func (a *app) schema(args []string) error {
	name := append(args, "settings")[0]
	schema, ok := schemas[name]
	if !ok {
		return fmt.Errorf("%w: there is no schema of %q: want settings or migrations", errUsage, name)
	}
	text, err := schema()
	if err != nil {
		return err
	}
	return a.print(string(text) + "\n")
}
