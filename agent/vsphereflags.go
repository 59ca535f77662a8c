package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/pipeline/vsphere"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
)

// vsphereFlags say how a vCenter or an ESXi host is reached, and what is done there.
type vsphereFlags struct {
	user, password           string
	thumbprint, ca, proxy    string
	resolve                  []string
	transports               []string
	vddk, vddkModes, plugin  string
	sshUser, sshKey, sshHost string
	sshPrint, sshPassword    string
	sshPort                  uint16
	own                      string
	powerOff, quiesce        bool
	shutdown                 time.Duration
	note, rename, folder     string
	tag                      string
	disconnect               bool
}

// addServer adds how a server is reached.
func (f *vsphereFlags) addServer(c *cobra.Command) {
	c.Flags().StringVar(&f.user, "user", "", "user at the vCenter or the ESXi host, if the source does not name one")
	c.Flags().StringVar(&f.password, "password-file", "", "file with that user's password; asked for if it is not given")
	c.Flags().StringVar(&f.thumbprint, "thumbprint", "", "SHA-256 or SHA-1 of the server's certificate, which is then the only one that is taken")
	c.Flags().StringVar(&f.ca, "ca-file", "", "file with the certificates that may sign the server's, instead of this machine's")
	c.Flags().StringVar(&f.proxy, "proxy", "", "URL of an HTTP proxy on the way to the server, instead of the environment's")
	c.Flags().StringArrayVar(&f.resolve, "resolve", nil, "address of a host that has no name here: esx1.example.com=192.0.2.7 (may be repeated)")
}

// addReading adds how disks are read.
func (f *vsphereFlags) addReading(c *cobra.Command) {
	f.addServer(c)
	c.Flags().StringSliceVar(&f.transports, "transport", nil, "ways to read the disks in the order in which they are tried, instead of all: "+strings.Join(transportNames(), ", "))
	c.Flags().StringVar(&f.vddk, "vddk", "", "folder of VMware's VDDK, for the transport of that name")
	c.Flags().StringVar(&f.vddkModes, "vddk-modes", "", "VDDK's own modes of transport in the order in which it tries them, such as san:nbdssl, instead of its choice")
	f.addPlugin(c)
	c.Flags().StringVar(&f.sshUser, "ssh-user", "", "user at the ESXi hosts, for the transport ssh")
	c.Flags().StringVar(&f.sshKey, "ssh-key", "", "file of that user's private key")
	c.Flags().StringVar(&f.sshPassword, "ssh-password-file", "", "file with that user's password, instead of a key or besides; asked for if neither is given")
	c.Flags().Uint16Var(&f.sshPort, "ssh-port", 22, "port at which the ESXi hosts' SSH listens")
	c.Flags().StringVar(&f.sshHost, "ssh-known-hosts", "", "file of the ESXi hosts' keys, as OpenSSH has it")
	c.Flags().StringVar(&f.sshPrint, "ssh-fingerprint", "", "fingerprint of the one key that the ESXi host may have, SHA256:…, instead of --ssh-known-hosts")
	f.addOwn(c)
	c.Flags().BoolVar(&f.quiesce, "quiesce", false, "have the guest of a running VM flush its files before its disks are frozen")
}

func (f *vsphereFlags) addPlugin(c *cobra.Command) {
	c.Flags().StringVar(&f.plugin, "vddk-plugin", "", "file of nbdkit's vddk plugin, instead of nbdkit's own")
}

func (f *vsphereFlags) addOwn(c *cobra.Command) {
	c.Flags().StringVar(&f.own, "own-vm", "", "VM that this program runs in, to which disks are attached; found out if it is not given")
}

// addMoving adds what a migration does with its VM.
func (f *vsphereFlags) addMoving(c *cobra.Command) {
	c.Flags().BoolVar(&f.powerOff, "power-off", false, "power the VM off if its guest does not shut down; else the migration ends there")
	c.Flags().DurationVar(&f.shutdown, "shutdown-wait", 10*time.Minute, "how long its guest may take to shut down")
	c.Flags().StringVar(&f.note, "mark-note", "", "line for the annotation of a VM whose migration was proved; {name}, {migration} and {date} are filled in")
	c.Flags().StringVar(&f.rename, "mark-name", "", "name that it gets, such as {name}-migrated")
	c.Flags().StringVar(&f.folder, "mark-folder", "", "folder that it is moved to, such as /DC0/vm/Migrated")
	c.Flags().StringVar(&f.tag, "mark-tag", "", "tag that it gets, as CATEGORY/NAME; made if there is none")
	c.Flags().BoolVar(&f.disconnect, "mark-disconnect", false, "its network cards do not connect when it is powered on again")
}

func transportNames() (names []string) {
	for _, t := range transport.Transports() {
		names = append(names, t.Name)
	}
	return names
}

// server is the one that a text names, with the flags' credentials.
func (f *vsphereFlags) server(a *app, host, user string) (vmware.Config, error) {
	c := vmware.Config{Server: host, User: user, Thumbprint: f.thumbprint, CA: f.ca, Proxy: f.proxy, Resolve: map[string]string{}}
	if c.User == "" {
		c.User = f.user
	}
	if c.User == "" {
		return c, fmt.Errorf("%w: --user is missing: who logs in at %s?", errUsage, host)
	}
	for _, text := range f.resolve {
		name, address, ok := strings.Cut(text, "=")
		if !ok || name == "" || address == "" {
			return c, fmt.Errorf("%w: --resolve %s: want NAME=ADDRESS", errUsage, text)
		}
		c.Resolve[name] = address
	}
	password, err := a.password("--password-file", f.password, c.User+" at "+host)
	c.Password = password
	return c, err
}

// maxPassword is how long a password may be, in bytes.
const maxPassword = 4096

// password reads the file that a flag names, or asks somebody if it names none.
func (a *app) password(flag, file, who string) (vmware.Secret, error) {
	if file == "" {
		secret, err := a.ask("Password for "+who, "give "+flag+" FILE")
		return vmware.Secret(secret), err
	}
	secrets, err := readSecret(flag, file, maxPassword, fmt.Sprintf("a password has one at least, and %d at most", maxPassword))
	if err != nil {
		return "", err
	}
	if bytes.ContainsAny(secrets[0], "\r\n") {
		return "", fmt.Errorf("%w: %s: %s has more than one line", source.ErrBadInput, flag, file)
	}
	return vmware.Secret(secrets[0]), nil
}

// origin is the VM that a source names. Live leaves it running.
func (f *vsphereFlags) origin(a *app, text, folder string, live bool, limits []transfer.Limit) (*vsphere.Origin, error) {
	c, err := f.config(a, text)
	if err != nil {
		return nil, err
	}
	c.Live, c.Folder, c.Limits = live, folder, limits
	return vsphere.New(c)
}

func (f *vsphereFlags) config(a *app, text string) (c vsphere.Config, err error) {
	host, user, vm, err := vsphere.Parse(text)
	if err != nil {
		return c, err
	}
	c = vsphere.Config{VM: vm, Quiesce: f.quiesce, Transports: f.transports, VDDK: f.vddk, VDDKModes: f.vddkModes, VDDKPlugin: f.plugin, Own: f.own, Log: a.log(),
		Power: vmware.PowerPolicy{Wait: f.shutdown, Force: f.powerOff},
		Marks: vmware.Marks{Note: f.note, Rename: f.rename, Folder: f.folder, DisconnectNICs: f.disconnect},
		Tell:  func(text string) { fmt.Fprintln(a.stderr, "  "+pipeline.Line(text)) }}
	if c.Marks.Tag, err = f.markTag(); err != nil {
		return c, err
	}
	c.Marks.CreateTag = f.tag != ""
	if c.Server, err = f.server(a, host, user); err != nil {
		return c, err
	}
	c.SSH, err = f.ssh(a)
	return c, err
}

// ssh is how the ESXi hosts are reached over SSH; nil if nobody logs in there.
func (f *vsphereFlags) ssh(a *app) (*transport.SSH, error) {
	if f.sshUser == "" && f.sshKey == "" && f.sshPassword == "" {
		return nil, nil
	}
	if f.sshUser == "" {
		return nil, fmt.Errorf("%w: --ssh-user is missing: who logs in at the ESXi hosts?", errUsage)
	}
	s := &transport.SSH{User: f.sshUser, Key: f.sshKey, HostKeys: f.sshHost, Fingerprint: f.sshPrint, Port: int(f.sshPort)}
	if f.sshKey != "" && f.sshPassword == "" {
		return s, nil
	}
	password, err := a.password("--ssh-password-file", f.sshPassword, f.sshUser+" at the ESXi hosts")
	s.Password = func() string { return string(password) }
	return s, err
}

// marks are those of the flags, as an appliance is asked for them.
func (f *vsphereFlags) marks() model.Marks {
	return model.Marks{Note: f.note, Rename: f.rename, Folder: f.folder, Tag: f.tag, Disconnect: f.disconnect}
}

func (f *vsphereFlags) markTag() (vmware.Tag, error) {
	if f.tag == "" {
		return vmware.Tag{}, nil
	}
	category, name, ok := strings.Cut(f.tag, "/")
	if !ok || category == "" || name == "" {
		return vmware.Tag{}, fmt.Errorf("%w: --mark-tag %s: want CATEGORY/NAME", errUsage, f.tag)
	}
	return vmware.Tag{Category: category, Name: name}, nil
}
