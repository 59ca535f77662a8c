package guests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/lan"
)

// controlLimit bounds the control boot, which takes a minute emulated.
const controlLimit = 10 * time.Minute

// controlArgs boot the finished VMDK with its own boot loader, writing nothing
// to it, its card on a socket.
func controlArgs(r Recipe, vmdk, socket string) []string {
	return machineArgs(r,
		"file="+vmdk+",format=vmdk,snapshot=on",
		"stream,id=net0,server=off,addr.type=unix,addr.path="+socket)
}

// control boots the guest as it is and waits until its static address answers
// from its card: boot loader, root, udev and ifupdown then did their work on
// VMware's devices. The guest needs no console and no probe for it.
func (b *build) control(ctx context.Context) (err error) {
	short, err := os.MkdirTemp("", "guest") // a socket's name has 107 bytes at most, unix(7)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(short)) }()
	socket := filepath.Join(short, "net")
	segment, err := lan.Listen(socket, lan.Expect{
		MAC: b.NIC.MAC, Static: []netip.Prefix{b.NIC.Address}, Gateway: b.NIC.Gateway,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, segment.Close()) }()
	began := time.Now()
	machine, err := proc.Start(ctx, proc.Service{
		Command: proc.Command{
			Name: "qemu-system-x86_64", Args: append(b.accel.QEMU(), controlArgs(b.Recipe, b.VMDK, socket)...),
			Env: []string{"TMPDIR=" + b.dir}, // what the guest writes goes there
		},
		NoSocket: true,
	})
	if err != nil {
		return err
	}
	err = awaitAnswer(ctx, segment, machine, b.NIC)
	b.Control = time.Since(began).Round(time.Second)
	return errors.Join(err, machine.Stop())
}

// awaitAnswer waits until the card itself answers for its address.
func awaitAnswer(ctx context.Context, segment *lan.Segment, machine *proc.Server, nic NIC) error {
	ctx, cancel := context.WithTimeoutCause(ctx, controlLimit, fmt.Errorf("no answer within %v", controlLimit))
	defer cancel()
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	for {
		seen := segment.Witness()
		if answered(seen, nic) {
			return nil
		}
		select {
		case <-look.C:
		case <-machine.Done():
			return errors.Join(errors.New("the machine ended"), machine.Err())
		case <-ctx.Done():
			return fmt.Errorf("%w; the network saw %s", context.Cause(ctx), seen)
		}
	}
}

// answered tells whether the card, and nobody else, answered for its address.
func answered(seen lan.Witness, nic NIC) bool {
	return slices.ContainsFunc(seen.Answering, func(a lan.Answer) bool {
		return a.Addr == nic.Address.Addr() && a.MAC == nic.MAC
	})
}
