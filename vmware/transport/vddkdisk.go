package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/pipeline/proc"
)

// vddkDisk is a disk that an nbdkit reads through VMware's library. All its requests go
// over one connection, in flight together: each connection opens the disk once more, and
// the library is slower with several (virt-v2v commit bb0e6983: 416 s fell to 332 s).
type vddkDisk struct {
	access  Access
	disk    Disk
	silence time.Duration // that nbdkit may keep

	mu      sync.Mutex
	dir     string // private, of the nbdkit that runs
	server  *proc.Server
	words   *vddkWords
	client  *nbd.Client
	renewed bool  // it is the second nbdkit
	lost    error // why there is none any more
}

// start starts nbdkit and opens the disk. Nothing runs after an error.
func (v *vddkDisk) start(ctx context.Context) (err error) {
	if v.dir, err = proc.PrivateDir(); err != nil {
		return err
	}
	user, password := v.access.Login()
	v.words = newVDDKWords()
	if err = os.WriteFile(passwordIn(v.dir), []byte(password), 0o600); err == nil {
		v.server, err = proc.Start(ctx, proc.Service{
			Command: proc.Command{Name: "nbdkit", Args: vddkArgs(v.access, v.disk, user, v.dir), Both: v.words},
			Socket:  socketIn(v.dir),
		})
	}
	if err == nil {
		v.client, err = nbd.Dial(ctx, nbd.Options{Socket: socketIn(v.dir), Silence: v.silence})
	}
	if err != nil {
		stopped := v.stop() // and so all is said
		return errors.Join(v.explain(ctx, err, password), stopped)
	}
	return nil
}

// stop ends what start has started.
func (v *vddkDisk) stop() (err error) {
	if v.client != nil {
		err = v.client.Close()
	}
	if v.server != nil {
		err = errors.Join(err, v.server.Stop())
	}
	if v.dir != "" {
		err = errors.Join(err, os.RemoveAll(v.dir))
	}
	v.client, v.server, v.dir = nil, nil, ""
	return err
}

// explain says what an error of nbdkit's or of a request's means. The password is not in
// it, whatever the library said.
func (v *vddkDisk) explain(ctx context.Context, err error, password string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("vddk: %w", context.Cause(ctx))
	}
	if sentence := v.words.meaning(ctx); sentence != "" {
		err = fmt.Errorf("%s (%w)", sentence, err)
	}
	if text := err.Error(); password != "" && strings.Contains(text, password) {
		err = errors.New(strings.ReplaceAll(text, password, "[secret]"))
	}
	return fmt.Errorf("vddk: %w", err)
}

// do has f ask a connection. What fails is asked once more of a new nbdkit; there is one
// new one, and after that the error goes up.
func (v *vddkDisk) do(ctx context.Context, f func(*nbd.Client) error) error {
	client, err := v.connection(ctx, nil, nil)
	for err == nil {
		if err = f(client); err == nil || ctx.Err() != nil {
			return err
		}
		client, err = v.connection(ctx, client, err)
	}
	return err
}

// connection is the one to use, and after one failed, why it did or the next one.
func (v *vddkDisk) connection(ctx context.Context, failed *nbd.Client, why error) (*nbd.Client, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.lost != nil:
		return nil, v.lost
	case v.client != nil && v.client != failed:
		return v.client, nil
	}
	if why != nil {
		_, password := v.access.Login()
		why = v.explain(ctx, why, password)
	}
	if v.renewed {
		return nil, why
	}
	if err := v.renew(ctx, why); err != nil {
		return nil, err
	}
	return v.client, nil
}

// renew takes another nbdkit. Where that fails, the disk is lost, unless it was ctx that
// ended: then the next request tries.
func (v *vddkDisk) renew(ctx context.Context, why error) error {
	limited, cancel := context.WithTimeoutCause(ctx, openWait, fmt.Errorf("VMware's library did not open the disk once more within %v", openWait))
	defer cancel()
	err := errors.Join(v.stop(), v.start(limited))
	if err == nil && v.client.Size() != v.disk.Size {
		err = errors.Join(fmt.Errorf("vddk: the disk has now %d bytes, and had %d", v.client.Size(), v.disk.Size), v.stop())
	}
	if v.renewed = ctx.Err() == nil; v.renewed && err != nil {
		if fileGone.MatchString(v.words.String()) {
			err = fmt.Errorf("%s %w: %w", v.disk.Files[0], ErrGone, err)
		}
		v.lost = errors.Join(why, err)
		return v.lost
	}
	return err
}

// Size is the disk's, in bytes.
func (v *vddkDisk) Size() int64 { return v.disk.Size }

// sector is the unit of VMware's library, in bytes.
const sector = 512

// mostRead is how much is asked for at a time, in bytes: ESXi keeps a buffer of that
// size and has few of 2 MiB. Source: nbdkit-vddk-plugin(1), "Out of memory errors".
const mostRead = 1 << 20

// Read fills p with what lies at off.
func (v *vddkDisk) Read(ctx context.Context, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if err := within(v.disk.Size, off, int64(len(p))); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(int64(len(p)), mostRead-off%sector)
		if err := v.readSome(ctx, p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readSome reads at most mostRead bytes, through a buffer where they are not sectors.
func (v *vddkDisk) readSome(ctx context.Context, p []byte, off int64) error {
	from, to := off-off%sector, off+int64(len(p))
	to += (sector - to%sector) % sector
	into := p
	if to-from != int64(len(p)) {
		into = make([]byte, to-from)
	}
	err := v.do(ctx, func(c *nbd.Client) error { return c.Read(ctx, into, from) })
	if err == nil && to-from != int64(len(p)) {
		copy(p, into[off-from:])
	}
	return err
}

// Extents are what of n bytes from off on may be data: of a library that cannot tell, all.
func (v *vddkDisk) Extents(ctx context.Context, off, n int64) ([]disk.Allocation, error) {
	if err := within(v.disk.Size, off, n); err != nil {
		return nil, err
	}
	from, to := off-off%sector, off+n
	to += (sector - to%sector) % sector
	var list []nbd.Extent
	err := v.do(ctx, func(c *nbd.Client) (err error) {
		list, err = c.Extents(ctx, nbd.Allocation, from, to-from)
		if errors.Is(err, nbd.ErrNoContext) {
			list, err = []nbd.Extent{{Length: to - from}}, nil
		}
		return err
	})
	return clipped(list, from, off, n), err
}

// clipped are a server's extents from from on, of which n bytes from off on are asked
// for.
func clipped(list []nbd.Extent, from, off, n int64) (all []disk.Allocation) {
	for _, e := range list {
		begin, end := max(from, off), min(from+e.Length, off+n)
		if from += e.Length; begin < end {
			all = append(all, disk.Allocation{Offset: begin, Length: end - begin, Zero: e.Flags&nbd.Zero != 0})
		}
	}
	return all
}

// Close ends nbdkit.
func (v *vddkDisk) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost = cmp.Or(v.lost, errClosed)
	return v.stop()
}
