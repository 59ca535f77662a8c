package direct

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/guest/direct/call"
	"hyper2kvm/fixers/guest/direct/files"
	"hyper2kvm/fixers/guest/luks"
	"hyper2kvm/pipeline/proc"
)

// mounterPart is the name of the mounter's part: its argv[0].
const mounterPart = "hyper2kvm-mounter"

// Serve plays the part of one of the engine's processes, as its arguments say.
func Serve(args []string) error {
	switch args[0] {
	case mounterPart:
		return serveMounter(args)
	case files.Part:
		return files.Serve(args)
	}
	return fmt.Errorf("%s is a part of hyper2kvm, not a command", args[0])
}

// maxMemory is what the mounter may have. What it reads of tables and metadata is
// bounded by much less. To make a key of a passphrase may take more, if there is one.
const maxMemory = 160 << 20

// mayMount are the capabilities that the mounter keeps: those that mounting takes, and
// those that it hands on: to the process with the files, and to the program that shows
// NTFS, which becomes another user. It cannot load modules, trace, or use the network's.
//
// Source: capabilities(7).
var mayMount = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYSLOG, unix.CAP_SETPCAP, unix.CAP_SYS_CHROOT, unix.CAP_SYS_RESOURCE,
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETFCAP,
	unix.CAP_SETUID, unix.CAP_SETGID}

// mounterService is the process that serveMounter is. It is handed its own end of a
// socket, the other process's, that one's window, and the disks. Its mounts are its own.
func mounterService(program *os.File, locked bool, handed []*os.File) proc.Service {
	memory := int64(maxMemory)
	if locked {
		memory += luks.MaxMemory
	}
	return proc.Service{
		Command:       proc.Command{Name: mounterPart, Memory: memory, Keep: mayMount},
		Program:       program,
		NoSocket:      true,
		PrivateMounts: true,
		Files:         handed,
	}
}

type (
	openArgs struct {
		Disks int
		Keys  *guest.Keyring
	}
	openReply struct {
		Topology guest.Topology
		Keys     *guest.Keyring // with what was found out about them
	}
	mountArgs struct {
		Device, At string
		ByID       bool // it is a subvolume of a btrfs, not what that shows by default
		Subvolume  uint64
	}
	mountReply struct {
		Topology guest.Topology
		ID       string // the number of the mount
		Root     string // where the other process finds the guest's root
	}
	checkReply struct {
		Health   guest.Health
		Topology guest.Topology
	}
)

// handedDisks is how many files are handed over before the disks.
const handedDisks = 3

// mounter is the process that has the disks.
type mounter struct {
	*engine
	server *call.Server
	theirs []*os.File // the other process's, until that is started
}

// serveMounter is the process: it answers until its caller hangs up.
func serveMounter(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s is a part of the program, not a command", mounterPart)
	}
	socket, err := call.Socket(proc.Handed(0, "calls"))
	if err != nil {
		return err
	}
	m := &mounter{server: call.NewServer(ErrUnsupported), theirs: []*os.File{proc.Handed(1, "names"), proc.Handed(2, "window")}}
	call.Handle(m.server, "open", m.open)
	call.Handle(m.server, "mount", func(ctx context.Context, a mountArgs) (mountReply, error) {
		id, err := m.mount(ctx, a)
		return mountReply{withoutKeys(m.topology), id, rootFolder}, err
	})
	call.Handle(m.server, "unmount", func(context.Context, call.None) (call.None, error) { return call.None{}, m.UnmountAll() })
	call.Handle(m.server, "check", func(ctx context.Context, device string) (checkReply, error) {
		health, err := m.Check(ctx, device)
		return checkReply{health, withoutKeys(m.topology)}, err
	})
	call.Handle(m.server, "grow", func(ctx context.Context, r guest.Resize) (guest.Topology, error) {
		err := m.Grow(ctx, r)
		return withoutKeys(m.topology), err
	})
	call.Handle(m.server, "close", func(context.Context, call.None) (call.None, error) { return call.None{}, m.Close() })
	return m.server.Serve(proc.WithLogger(context.Background(), m.server.Log()), socket)
}

// open opens the disks, and starts the other process.
func (m *mounter) open(ctx context.Context, a openArgs) (_ openReply, err error) {
	var disks []*os.File
	for i := range a.Disks {
		disks = append(disks, proc.Handed(handedDisks+i, fmt.Sprintf("disk%d", i)))
	}
	if m.engine, err = readDisks(ctx, disks, a.Keys, m.server.Log()); err != nil {
		return openReply{}, err
	}
	if m.mounts, err = newMounts(); err == nil {
		err = m.startFiles(ctx)
	}
	if err != nil {
		return openReply{}, errors.Join(err, m.closeDisks())
	}
	return openReply{withoutKeys(m.topology), a.Keys}, nil
}

// withoutKeys is a topology without the keys of its volumes: nobody else needs them.
func withoutKeys(t guest.Topology) guest.Topology {
	t.Volumes = slices.Clone(t.Volumes)
	for i, v := range t.Volumes {
		if v.Crypt != nil {
			c := *v.Crypt
			c.Key = nil
			t.Volumes[i].Crypt = &c
		}
	}
	return t
}

// startFiles starts the other process. The end of either is the end of both.
func (m *mounter) startFiles(ctx context.Context) error {
	attrs, theirs, err := files.KeeperPair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	server, err := proc.Start(ctx, files.Service(m.mounts.base, m.theirs[0], theirs, m.theirs[1]))
	if err := errors.Join(err, m.theirs[0].Close(), m.theirs[1].Close()); err != nil {
		return errors.Join(err, attrs.Close())
	}
	go m.keep(attrs, server)
	return nil
}

// keep keeps the attributes of the guest's files for the other process, until that
// ends: then there is nobody left to mount for.
func (m *mounter) keep(attrs *net.UnixConn, server *proc.Server) {
	err := files.Keeper{May: m.mounts.have}.Serve(attrs)
	if err != nil {
		err = errors.Join(err, server.Kill())
	}
	<-server.Done()
	fmt.Fprintln(os.Stderr, errors.Join(errors.New("the process that has the guest's files ended"), err, server.Err()))
	os.Exit(1)
}
