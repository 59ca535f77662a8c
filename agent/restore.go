package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/backup"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/seal"
)

func (a *app) restore() *cobra.Command {
	var files []string
	var passphrase string
	c := &cobra.Command{
		Use: "restore ARCHIVE", Short: "Make an appliance of a backup, on a machine whose agent does not run", Args: oneArg("ARCHIVE"),
		Long: `Make an appliance of a backup: with its migrations, users, tokens, secrets and audit
log. The folder that the settings name as state must be empty or not there, and the
appliance that the backup is of must not run any more: each would go on with the
other's migrations.

The private files, among them the key that opens sealed secrets, are restored with the
passphrase that the backup was made with.`,
		RunE: func(c *cobra.Command, args []string) error {
			s, err := config.Load(files...)
			if err != nil {
				return err
			}
			secret, err := a.passphrase(passphrase)
			if err != nil {
				return err
			}
			defer secret.Wipe()
			done, err := backup.Restore(c.Context(), args[0], s.State, secret, a.log())
			if err != nil {
				return err
			}
			return a.restored(s.State, done)
		},
	}
	c.Flags().StringArrayVar(&files, "config", nil, "file of settings, or a folder of *.yaml files (may be repeated; each lies over the one before)")
	c.Flags().StringVar(&passphrase, "passphrase", "", "of the private files: file:FILE, or prompt")
	return c
}

// passphrase is what a flag says where it is; none if that is empty. One on the command
// line would be seen by all on this machine.
func (a *app) passphrase(way string) (seal.Secret, error) {
	if way == "" {
		return nil, nil
	}
	if way == "prompt" {
		return a.ask("Passphrase for the backup's private files", "--passphrase prompt")
	}
	name, ok := strings.CutPrefix(way, "file:")
	if !ok {
		return nil, fmt.Errorf("%w: --passphrase takes no passphrase, which others would see: write file:FILE, or prompt", errUsage)
	}
	secrets, err := readPassphrase("--passphrase", name)
	if err != nil {
		return nil, err
	}
	return secrets[0], nil
}

func (a *app) restored(state string, done backup.Restored) error {
	text := fmt.Sprintf("restored %s (%s) as it was at %s into %s\n", done.Appliance, done.ID, done.Made.Local().Format("2006-01-02 15:04:05"), state)
	if !done.Keys {
		text += "its private files were left out: secrets do not open until the key that they were sealed with is in " + state + "/seal.key, and the certificate is a new one\n"
	}
	return a.print(text)
}
