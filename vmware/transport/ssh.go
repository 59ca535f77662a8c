package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/disk"
)

// overSSH reads a disk's files from the datastores of an ESXi host by SFTP. It is in this
// program and no nbdkit: the key and the password come to no file and no other process.
//
// Source: VMware KB 1004604 (/vmfs/volumes); draft-ietf-secsh-filexfer-02, the version 3
// that OpenSSH's server has, which is ESXi's.
var overSSH = Transport{
	Name: "ssh",
	Does: "reads the disk's files from the ESXi host, over SSH",
	Open: openSSH,
}

func openSSH(ctx context.Context, a Access, d Disk) (disk.Remote, error) {
	if err := sshLacks(a, d); err != nil {
		return nil, err
	}
	l := newSSHLink(a.SSH, sshAddress(d.Host, a.SSH.Port))
	r, err := overFiles(ctx, d, l.open)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &closing{Remote: r, then: l.Close}, nil
}

// sshLacks is what an SSH client would miss.
func sshLacks(a Access, d Disk) error {
	lacks := func(what string) error { return fmt.Errorf("%w over SSH: %s", ErrUnusable, what) }
	switch {
	case a.SSH == nil:
		return lacks("no log-in at the ESXi hosts is known: give a user, and a key or a password")
	case a.SSH.HostKeys == "" && a.SSH.Fingerprint == "":
		return lacks("the hosts' keys are not pinned: give a known_hosts file or a fingerprint")
	case a.SSH.Key == "" && a.SSH.Password == nil:
		return lacks("give a private key or a password")
	case d.Host == "" || len(d.Files) == 0:
		return lacks("the host or the disk's files are not known")
	}
	return nil
}

// sshPort is where SSH servers listen.
const sshPort = 22

func sshAddress(host string, port int) string {
	if port == 0 {
		port = sshPort
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

// volumePath is where an ESXi host has a file of a datastore. What is named goes to no
// shell, so any character may be in it.
func volumePath(name string) (string, error) {
	p, err := parsePath(name)
	if err != nil {
		return "", err
	}
	volume := "/vmfs/volumes/" + p.datastore
	if file := path.Join(volume, p.file); path.Dir(volume) == "/vmfs/volumes" && strings.HasPrefix(file, volume+"/") {
		return file, nil
	}
	return "", fmt.Errorf("%w over SSH: %q leads out of its datastore", ErrUnusable, name)
}
