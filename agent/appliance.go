package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/client"
)

// ownSocket is where the agent of this machine answers if its settings say nothing else.
const ownSocket = "unix:/run/hyper2kvm/agent.sock"

const applianceHelp = `With --appliance the commands ask an appliance's agent, and migrations run there: a
SOURCE is STORAGE:PATH, disk:ID of a disk that is attached to it, or
vsphere://SERVER/VM with the name of a server in its settings, --to a storage, and a MIGRATION an ID or a name. What is asked for goes on
when this program ends. The address is https://HOST:8443,
unix:PATH, vsock:CID:PORT, or a name in ~/.config/` + client.NamedFile + `.
`

// way is how to an appliance, by the flags of all commands.
type way struct {
	address string
	options client.Options
}

func (a *app) addAppliance(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.way.address, "appliance", "", "ask the agent at this address, or with this name, instead of working here")
	f.StringVar(&a.way.options.Fingerprint, "fingerprint", "", "SHA-256 of the appliance's certificate, as it shows it")
	f.StringVar(&a.way.options.CA, "ca", "", "file with the CA that signs the appliance's certificate, PEM")
	f.StringVar(&a.way.options.TokenFile, "token-file", "", "file with the token to show, which nobody else can read (or credential:NAME)")
}

// remote tells whether the work is an appliance's.
func (a *app) remote() bool { return a.way.address != "" }

// dial is the way to the appliance that was named, or else to the agent of this machine.
func (a *app) dial() (*client.Conn, error) {
	name := a.way.address
	if name == "" {
		name = ownSocket
	}
	address, o, err := client.Named(name, a.way.options)
	if err != nil {
		return nil, err
	}
	return client.New(address, o)
}

const bySettings = "its settings say how its vSphere servers are reached"

// Flags that mean something on one side alone, with what to do instead on the other.
var (
	hereAlone = map[string]string{
		"overwrite": "an appliance overwrites nothing but a disk that was chosen as target with --erase: see hyper2kvm disks use",

		"user": bySettings, "password-file": bySettings, "thumbprint": bySettings, "ca-file": bySettings, "proxy": bySettings, "resolve": bySettings,
		"vddk": bySettings, "vddk-modes": bySettings, "vddk-plugin": bySettings,
		"ssh-user": bySettings, "ssh-key": bySettings, "ssh-password-file": bySettings, "ssh-port": bySettings, "ssh-known-hosts": bySettings, "ssh-fingerprint": bySettings, "own-vm": "an appliance finds its own",
	}
	withMigration = []string{"limit", "key", "engine", "allow-folder"} // which are given once
	thereAlone    = []string{"approval", "detach"}
	nameless      = []string{"inspect", "test"} // which leave nothing here that has a name
	looks         = []string{"inspect", "plan"} // which have no target here
	afterwards    = []string{"verify", "undo", "test"}
	withSource    = []string{"hardware", "to", "name", "detach"} // of test, which a migration is not asked for
)

// ofMigration tells of a command that is about a migration that an appliance has done.
func ofMigration(c *cobra.Command, args []string) bool {
	return slices.Contains(afterwards, c.Name()) && !(c.Name() == "test" && len(args) == 1 && isPlace(args[0]))
}

// sides refuses flags that mean nothing where the command works.
func (a *app) sides(c *cobra.Command, args []string) error {
	if asksAlways(c) {
		return nil
	}
	if a.remote() {
		for name, why := range hereAlone {
			if c.Flags().Changed(name) {
				return fmt.Errorf("%w: --%s is not for --appliance: %s", errUsage, name, why)
			}
		}
		for _, name := range withMigration {
			if ofMigration(c, args) && c.Flags().Changed(name) {
				return fmt.Errorf("%w: --%s is not for --appliance here: it is given with the migration", errUsage, name)
			}
		}
		for _, name := range withSource {
			if c.Name() == "test" && ofMigration(c, args) && c.Flags().Changed(name) {
				return fmt.Errorf("%w: --%s is for the test of a source: write STORAGE:PATH", errUsage, name)
			}
		}
		return nil
	}
	if slices.Contains(looks, c.Name()) && c.Flags().Changed("to") {
		return fmt.Errorf("%w: --to is for migrations on an appliance: give --appliance", errUsage)
	}
	if f := c.Flags().Lookup("name"); slices.Contains(nameless, c.Name()) && f != nil && f.Changed {
		return fmt.Errorf("%w: --name is for migrations on an appliance: give --appliance", errUsage)
	}
	for _, name := range thereAlone {
		if f := c.Flags().Lookup(name); f != nil && f.Changed {
			return fmt.Errorf("%w: --%s is for migrations on an appliance: give --appliance", errUsage, name)
		}
	}
	for _, name := range []string{"fingerprint", "ca", "token-file"} {
		if c.Flags().Changed(name) {
			return fmt.Errorf("%w: --%s is for an appliance: give --appliance", errUsage, name)
		}
	}
	return nil
}

// onlyHere are the commands that no appliance does, with what to do instead.
var onlyHere = map[string]string{
	"serve":     "it is the appliance",
	"restore":   "it makes the appliance that then answers",
	"config":    "settings are files of the appliance's",
	"code":      "it is given on the appliance itself, over its own socket",
	"seed":      "it is made before there is an appliance",
	"usb-write": "the stick is in the machine that this runs on",

	"update confirm": "it is what a version does itself that is on trial",

	"first-boot": "it is what the appliance begins with",
	"dashboard":  "it is the screen of the appliance itself: see hyper2kvm list, appliances and probe",

	"vsphere assess":     "run it where the server is reached",
	"vsphere thumbprint": "run it where the server is reached, and put it into the appliance's settings",
	"vsphere role":       "it is this program's",
	"vsphere watch":      "run it where the server is reached",
	"vsphere sweep":      "run it where the server is reached",
	"vsphere restore":    "cancel the migration there; what was migrated is given back where its folder is reached",
	"version":            "it is this program's; see hyper2kvm appliances for theirs",
}

// place checks that a command can be done where it is to be.
func (a *app) place(c *cobra.Command, args []string) error {
	for p := c; p != nil; p = p.Parent() {
		name := strings.TrimPrefix(p.CommandPath(), p.Root().Name()+" ")
		if try, ok := onlyHere[name]; ok && a.remote() {
			return fmt.Errorf("%w: %s is not for --appliance: %s", errUsage, name, try)
		}
	}
	return a.sides(c, args)
}

// asks marks the commands that always ask an appliance.
const asks = "asks"

func asksAlways(c *cobra.Command) bool {
	for p := c; p != nil; p = p.Parent() {
		if p.Annotations[asks] != "" {
			return true
		}
	}
	return false
}

// isPlace tells a place from the ID or the name of a migration.
func isPlace(text string) bool { return strings.Contains(text, ":") }

// storagePlace is a place as people write it, STORAGE:PATH.
func storagePlace(text string) (storage, path string, err error) {
	storage, path, ok := strings.Cut(text, ":")
	if !ok || storage == "" || path == "" {
		return "", "", fmt.Errorf("%w: %s: write STORAGE:PATH of the appliance's, such as vmware:web01/web01.vmx", errUsage, text)
	}
	return storage, path, nil
}
