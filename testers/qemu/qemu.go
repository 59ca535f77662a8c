// Package qemu runs a guest under proof in QEMU itself, on the hardware of its
// domain.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/pipeline/machine"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers"
	"hyper2kvm/testers/screen"
	"hyper2kvm/testers/watch"
)

// Boot runs one session in QEMU; see watch.Boot.
func Boot(ctx context.Context, s watch.Spec) (testers.Session, error) {
	return watch.Boot(ctx, s, hypervisor{})
}

type hypervisor struct{}

// Plug opens the network of a NIC on a Unix socket.
func (hypervisor) Plug(dir string, i int) (net.Listener, error) {
	return net.Listen("unix", filepath.Join(dir, fmt.Sprintf("net%d", i)))
}

// Start starts QEMU.
func (hypervisor) Start(ctx context.Context, s watch.Spec, w watch.Wires) (watch.Machine, error) {
	args, err := arguments(s, w)
	if err != nil {
		return nil, err
	}
	if s.Domain.Firmware == machine.UEFI {
		_, vars := firmware(s.Domain)
		if err := copyFile(varsFile(w), vars); err != nil {
			return nil, err
		}
	}
	server, err := proc.Start(ctx, proc.Service{
		Command: proc.Command{Name: "qemu-system-x86_64", Args: args},
		Socket:  monitor(w),
	})
	if err != nil {
		return nil, err
	}
	client, err := qmp.Dial(ctx, monitor(w))
	if err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	q := &process{QEMU: screen.QEMU{Client: client, Dir: w.Dir}, server: server, spec: s}
	if err := q.Execute(ctx, "cont", nil, nil); err != nil {
		return nil, errors.Join(err, q.Stop())
	}
	return q, nil
}

// process is QEMU at work. Events, Lost and Done are the client's; Picture, Memory and
// Press are the screen's.
type process struct {
	screen.QEMU
	server *proc.Server
	spec   watch.Spec
}

// About tells what an emulated CPU lacks.
func (q *process) About() (by string, differences []string) {
	if q.spec.Accel != accel.KVM {
		options := processor(q.spec)
		differences = []string{"the CPU is emulated: model " + options[len(options)-1]}
	}
	return "QEMU", differences
}

// LastWords is QEMU's standard error, or how it ended if it said nothing.
func (q *process) LastWords() string {
	said := strings.TrimSpace(q.server.Stderr())
	if err := q.server.Err(); said == "" && err != nil {
		return err.Error()
	}
	return said
}

// Blocks adds up what QEMU counts for each disk.
func (q *process) Blocks(ctx context.Context) (watch.Operations, error) {
	var disks []struct {
		Stats struct {
			Reads  int64 `json:"rd_operations"`
			Writes int64 `json:"wr_operations"`
		} `json:"stats"`
	}
	var sum watch.Operations
	if err := q.Execute(ctx, "query-blockstats", nil, &disks); err != nil {
		return sum, err
	}
	for _, d := range disks {
		sum.Reads += d.Stats.Reads
		sum.Writes += d.Stats.Writes
	}
	return sum, nil
}

// Stop ends QEMU.
func (q *process) Stop() error { return errors.Join(q.Close(), q.server.Stop()) }

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
