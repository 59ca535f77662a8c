package vsphere

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/vsphere/waystest"
	"hyper2kvm/vmware"
	"hyper2kvm/vmware/transport"
)

// childEnv tells the test binary to be the migration that is killed.
const childEnv = "HYPER2KVM_TEST_VSPHERE"

// order is what a child is told.
type order struct {
	Server, Thumbprint, User, Password string
	VM, Folder, Own                    string
	By                                 []string
	Live                               bool
	Sys, Dev                           string // of its kernel
}

func (o order) config() Config {
	return Config{Server: vmware.Config{Server: o.Server, User: o.User, Password: vmware.Secret(o.Password), Thumbprint: o.Thumbprint},
		VM: o.VM, Folder: o.Folder, Own: o.Own, Transports: o.By, Live: o.Live, Log: slog.New(slog.DiscardHandler), Known: with(transport.Hotadd(o.Sys, o.Dev))}
}

// command is a migration as its command line gives it: cold, or a rehearsal.
func command(c Config) (*pipeline.Run, error) {
	o := pipeline.Options{Source: "vsphere://vc/web01", Shape: disk.Shape{Format: disk.Raw}, Engine: pipeline.Direct, Skip: map[string]string{"test": "not part of this"}}
	if c.Live {
		o.Skip["convert"] = "a rehearsal"
	}
	origin, err := New(c)
	if err != nil {
		return nil, err
	}
	return pipeline.Open(pipeline.Config{Folder: c.Folder, Version: "test", Log: slog.New(slog.DiscardHandler), Origin: origin}, o)
}

// child is a migration in a process of its own.
func child(text string) int {
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = o.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (o order) run() error {
	r, err := command(o.config())
	if err != nil {
		return err
	}
	return errors.Join(r.Go(context.Background()), r.Close())
}

// with are the transports with one in the place of that of its name.
func with(other transport.Transport) (all []transport.Transport) {
	for _, t := range transport.Transports() {
		if t.Name == other.Name {
			t = other
		}
		all = append(all, t)
	}
	return all
}

// killer kills a process when a server gets a request.
type killer struct {
	mu   sync.Mutex
	at   int // of the request; 0: never
	lost bool
	seen int
	p    *os.Process
}

// hears is the server's hook.
func (k *killer) hears(r *http.Request) (lost bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.p == nil {
		return false
	}
	k.seen++
	if k.seen != k.at {
		return k.at > 0 && k.seen > k.at
	}
	_ = k.p.Kill() // one that has ended is no harm
	return k.lost
}

// killed runs a migration in another process until it is killed at a request, or ends;
// the request is lost, or carried out and its answer lost.
func (k *killer) killed(t *testing.T, o order, at int, lost bool) (before bool) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k.mu.Lock()
	k.at, k.lost, k.seen = at, lost, 0
	attr := &os.ProcAttr{Env: append(os.Environ(), childEnv+"="+string(text)), Files: []*os.File{nil, os.Stderr, os.Stderr}}
	k.p, err = os.StartProcess(self, []string{self}, attr)
	p := k.p
	k.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() { p.Kill() })
	state, err := p.Wait()
	if err != nil || !late.Stop() {
		t.Fatalf("the child did not end by itself: %v", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.p = nil
	if !state.Exited() { // it was killed
		return true
	}
	if !state.Success() {
		t.Fatalf("the child ended with %v", state)
	}
	return false
}

// doomed is a lab whose migrations are killed.
type doomed struct {
	*lab
	killer
	appliance *waystest.Appliance
	live      bool
}

// newDoomed reads disks by hotadd, which changes the most at the server.
func newDoomed(t *testing.T, live bool) *doomed {
	t.Helper()
	d := &doomed{lab: newLab(t, nil), live: live}
	d.OnRequest = d.hears
	d.appliance = d.ByHotadd(t)
	d.by = []string{"hotadd"}
	return d
}

func (d *doomed) order() order {
	return order{Server: d.URL.Host, Thumbprint: d.ThumbprintSHA256, User: d.User, Password: d.Password, VM: d.vm.Ref.Value, Folder: d.folder,
		Own: d.Own, By: d.by, Live: d.live, Sys: d.appliance.Sys, Dev: d.appliance.Dev}
}

// everyRequest has migrations killed at every request, in each way; else it is at some
// requests, from the first to the last, in one of the ways.
func everyRequest() bool { return os.Getenv("NEED_VMS") == "matrix" }

// step is between two requests at which a migration is killed: prime to the number of
// ways, so that each is taken.
const step = 13

func TestAMigrationIsKilledAnywhereAndEndsRight(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("live %v", live), func(t *testing.T) {
			t.Parallel()
			d, n := newDoomed(t, live), 0
			for at := 2; d.tried(t, at, n); n++ {
				if !everyRequest() {
					at += step
				} else if n%4 == 3 {
					at++
				}
			}
		})
	}
}

// tried kills a migration at a request, and sees to it that what comes next ends right;
// false if it ended before. The request is lost or carried out, and next comes the same
// command or one that takes back what is changed.
func (d *doomed) tried(t *testing.T, at, way int) bool {
	t.Helper()
	d.folder = filepath.Join(t.TempDir(), "small")
	lost, again := way%2 == 0, way%4 < 2
	killed := d.killed(t, d.order(), at, lost)
	d.KillSessions(t) // as the server does half an hour later
	if killed && !again {
		d.givenBack(t, at, lost)
		return true
	}
	if killed {
		r, err := command(d.order().config())
		if err != nil {
			t.Fatalf("killed at request %d, lost %v: %v", at, lost, err)
		}
		if err := errors.Join(r.Go(t.Context()), r.Close()); err != nil {
			t.Errorf("killed at request %d, lost %v, and given again: %v", at, lost, err)
		}
		d.ended(t, r)
	}
	d.givenBack(t, at, lost)
	return killed
}

// ended checks what a migration made, and how it left its VM.
func (d *doomed) ended(t *testing.T, r *pipeline.Run) {
	t.Helper()
	if d.live {
		d.wants(t, on)
		return
	}
	d.wants(t, off)
	d.arrived(t, r)
}

// givenBack takes back what is changed, and checks that the VM is as it was found.
func (d *doomed) givenBack(t *testing.T, at int, lost bool) {
	t.Helper()
	if _, err := Restore(t.Context(), d.config()); err != nil {
		t.Errorf("killed at request %d, lost %v, and taken back: %v", at, lost, err)
	}
	d.wants(t, on)
	d.appliance.None(t)
	if t.Failed() {
		t.Fatalf("killed at request %d, lost %v", at, lost)
	}
}
