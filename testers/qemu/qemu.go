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
	q := &process{Client: client, server: server, spec: s, dir: w.Dir}
	if err := q.Execute(ctx, "cont", nil, nil); err != nil {
		return nil, errors.Join(err, q.Stop())
	}
	return q, nil
}

// process is QEMU at work. Events, Lost and Done are the client's.
type process struct {
	*qmp.Client
	server *proc.Server
	spec   watch.Spec
	dir    string
}

// About tells what an emulated CPU lacks.
func (q *process) About() (by string, differences []string) {
	if q.spec.Accel != accel.KVM {
		differences = []string{"the CPU is emulated: model max"}
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

// maxScreen bounds a screenshot in bytes.
const maxScreen = 16 << 20

// Picture takes a screenshot. A display that has nothing to show yet gives none.
func (q *process) Picture(ctx context.Context) ([]byte, error) {
	path := filepath.Join(q.dir, "screen.png")
	err := q.Execute(ctx, "screendump", props{"filename": path, "format": "png"}, nil)
	if _, refused := errors.AsType[*qmp.Error](err); refused {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readFile(path, maxScreen)
}

// Memory saves a part of the guest's memory and reads it.
func (q *process) Memory(ctx context.Context, address, size int64) ([]byte, error) {
	path := filepath.Join(q.dir, "memory")
	if err := q.Execute(ctx, "pmemsave", props{"val": address, "size": size, "filename": path}, nil); err != nil {
		return nil, err
	}
	return readFile(path, size)
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

// Press sends keys as an old PC numbers them, which is what Linux calls them.
func (q *process) Press(ctx context.Context, keys []int) error {
	var all []props
	for _, k := range keys {
		all = append(all, props{"type": "number", "data": k})
	}
	return q.Execute(ctx, "send-key", props{"keys": all}, nil)
}

// Stop ends QEMU.
func (q *process) Stop() error { return errors.Join(q.Close(), q.server.Stop()) }

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}

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
