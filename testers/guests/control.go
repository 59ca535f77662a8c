package guests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/lan"
	"hyper2kvm/testers/screen"
)

// controlLimit bounds the control boot, which takes a minute emulated.
const controlLimit = 10 * time.Minute

// controlArgs boot the finished VMDKs with their own boot loader, writing
// nothing to them, each card on a socket of the folder.
func controlArgs(g Guest, sockets, vars, serial string) []string {
	a := attached{vars: vars, serial: serial}
	for _, vmdk := range g.VMDKs {
		a.drives = append(a.drives, "file="+vmdk+",format=vmdk,snapshot=on")
	}
	for i := range g.NICs {
		a.netdevs = append(a.netdevs, "stream,server=off,addr.type=unix,addr.path="+cardSocket(sockets, i))
	}
	return append(machineArgs(g.Recipe, a),
		"-chardev", "socket,id=monitor,server=on,wait=off,path="+monitorSocket(sockets), "-mon", "chardev=monitor,mode=control")
}

func monitorSocket(dir string) string { return filepath.Join(dir, "monitor") }

func cardSocket(dir string, nic int) string { return filepath.Join(dir, fmt.Sprintf("net%d", nic)) }

// control boots the guest as it is and waits until each of its addresses answers
// from its card: boot loader, root, udev and network then did their work on
// VMware's devices. The guest needs no probe for it, and a console only if it
// has no address.
func (b *build) control(ctx context.Context) (err error) {
	sockets, err := os.MkdirTemp("", "guest") // a socket's name has 107 bytes at most, unix(7)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(sockets)) }()
	var segments []*lan.Segment
	for i, nic := range b.NICs {
		segment, err := lan.Listen(cardSocket(sockets, i), nic.expect())
		if err != nil {
			return err
		}
		defer segment.Close()
		segments = append(segments, segment)
	}
	said := filepath.Join(b.cache, b.Name+"-control.log") // outlives a failure
	began := time.Now()
	machine, err := proc.Start(ctx, proc.Service{
		Command: proc.Command{
			Name: "qemu-system-x86_64", Args: append(b.accel.QEMU(), controlArgs(b.Guest, sockets, b.vars(), said)...),
			Env: []string{"TMPDIR=" + b.dir}, // what the guest writes goes there
		},
		Socket: monitorSocket(sockets),
	})
	if err != nil {
		return err
	}
	monitor, err := qmp.Dial(ctx, monitorSocket(sockets))
	if err != nil {
		return errors.Join(err, machine.Stop())
	}
	b.keyboard = keyboard{QEMU: screen.QEMU{Client: monitor, Dir: sockets}}
	err = b.awaitUp(ctx, segments, said, machine)
	b.Control = time.Since(began).Round(time.Second)
	return errors.Join(err, monitor.Close(), machine.Stop())
}

// awaitUp waits until all is seen that shows that the guest is up.
func (b *build) awaitUp(ctx context.Context, segments []*lan.Segment, said string, machine *proc.Server) error {
	ctx, cancel := context.WithTimeoutCause(ctx, controlLimit, fmt.Errorf("not up within %v", controlLimit))
	defer cancel()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		var seen []lan.Witness
		for _, s := range segments {
			seen = append(seen, s.Witness())
		}
		serial, err := os.ReadFile(said)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // QEMU creates it
			return err
		}
		if b.up(seen, string(serial)) {
			return nil
		}
		if err := b.unlock(ctx); err != nil {
			return err
		}
		select {
		case <-look.C:
		case <-machine.Done():
			return errors.Join(errors.New("the machine ended"), machine.Err())
		case <-ctx.Done():
			return fmt.Errorf("%w; the network saw %s; see also %s", context.Cause(ctx), seen, said)
		}
	}
}

// up tells whether each card answers for its address, unless it never has one,
// and the login prompt is on the console, if there is one.
func (r Recipe) up(seen []lan.Witness, serial string) bool {
	for i, nic := range r.NICs {
		if !nic.lost() && !nic.answered(seen[i], r.Name) {
			return false
		}
	}
	return !r.Console || strings.Contains(serial, r.Name+" login:")
}

// answered tells whether the card, and nobody else, answered for its address. A
// lease was taken by the guest of that name: a firmware that finds nothing to
// boot asks for one, too, and has no name.
func (n NIC) answered(seen lan.Witness, guest string) bool {
	address := n.Address.Addr()
	if n.dhcp() {
		if seen.Lease == nil || seen.Lease.Hostname != guest {
			return false
		}
		address = seen.Lease.Addr
	}
	return slices.ContainsFunc(seen.Answering, func(a lan.Answer) bool {
		return a.Addr == address && a.MAC == n.MAC
	})
}
