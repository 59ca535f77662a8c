package vcenter

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/config"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/seal"
	"hyper2kvm/vmware/vmwaretest"
)

// kept is a secret that can be put.
type kept struct {
	mu       sync.Mutex
	password string
	number   uint64
}

func (k *kept) open(context.Context, string) (seal.Secret, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return seal.Secret(k.password), k.number, nil
}

func (k *kept) put(password string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.password, k.number = password, k.number+1
}

// pool is one for a server.
func pool(t *testing.T, s *vmwaretest.Server) (*Pool, *kept) {
	t.Helper()
	k := &kept{password: s.Password, number: 1}
	p := New(Config{Servers: []config.Server{{Name: "vc1", Server: s.URL.Host, User: s.User, Secret: "x", Thumbprint: s.ThumbprintSHA256}}, Secret: k.open, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if n := len(s.Sessions()); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
	return p, k
}

func code(err error) string {
	if f, ok := err.(*engine.Failure); ok {
		return f.Code
	}
	return ""
}

func ask(t *testing.T, p *Pool) {
	t.Helper()
	if _, err := p.VMs(t.Context(), "vc1", model.ListVMsParams{}); err != nil {
		t.Error(err)
	}
}

func TestManyShareOneSession(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, _ := pool(t, s)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { ask(t, p) })
	}
	all.Wait()
	if n := s.Calls()["Login"]; n != 1 {
		t.Errorf("20 who ask log in %d times", n)
	}
}

func TestASessionThatNobodyUsesEnds(t *testing.T) {
	was := idle
	idle = 50 * time.Millisecond
	defer func() { idle = was }()
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, _ := pool(t, s)
	ask(t, p)
	for limit := time.Now().Add(5 * time.Second); len(s.Sessions()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not end")
		}
	}
	ask(t, p)
}

func TestASecretThatIsPutIsTriedAndEndsTheSessionBefore(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, k := pool(t, s)
	ask(t, p)
	k.put(s.Password)
	ask(t, p)
	if n := s.Calls()["Login"]; n != 2 || len(s.Sessions()) != 1 {
		t.Errorf("there were %d log-ins, and %d sessions are open", n, len(s.Sessions()))
	}
}

// TestWhatARunnerWasRefusedIsTriedNoMore: a password that was changed at the server while
// the session here goes on.
func TestWhatARunnerWasRefusedIsTriedNoMore(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, k := pool(t, s)
	w, err := p.Server(t.Context(), "vc1")
	if err != nil || string(w.Password) != s.Password {
		t.Fatalf("a worker is given %v, %v", w.User, err)
	}
	p.Refused(w, "it is not known any more")
	if _, err := p.Server(t.Context(), "vc1"); code(err) != "vsphere-login" {
		t.Errorf("the next one is told %v", err)
	}
	if n := s.Calls()["Login"]; n != 1 {
		t.Errorf("there were %d log-ins", n)
	}
	k.put(s.Password)
	ask(t, p)
	p.Refused(w, "of the secret before")
	ask(t, p)
}

func TestAServerThatIsAwayIsTriedAgain(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, _ := pool(t, s)
	s.Storm(vmwaretest.Weather{Prefix: "/sdk", Status: 404})
	if _, err := p.VMs(t.Context(), "vc1", model.ListVMsParams{}); code(err) != "vsphere-away" {
		t.Errorf("it is told as %q, %v", code(err), err)
	}
	s.Clear()
	ask(t, p)
}

func TestWhoGoesAwayWhileItIsAskedLeavesNothing(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, _ := pool(t, s)
	s.Storm(vmwaretest.Weather{Prefix: "/sdk", Delay: 300 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := p.VMs(ctx, "vc1", model.ListVMsParams{}); err == nil {
		t.Error("it was answered")
	}
	s.Clear()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if n := len(s.Sessions()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestPagesOfAListShareALook at the whole inventory, of which a new list makes a new one.
func TestPagesOfAListShareALook(t *testing.T) {
	s := vmwaretest.Start(t, vmwaretest.Options{})
	p, _ := pool(t, s)
	for _, name := range []string{"db01", "web01", "web02"} {
		s.AddVM(t, vmwaretest.VM{Name: name})
	}
	list := func() (names []string) {
		t.Helper()
		for page, cursor := 0, ""; page == 0 || cursor != ""; page++ {
			list, err := p.VMs(t.Context(), "vc1", model.ListVMsParams{Limit: 1, Cursor: cursor})
			if err != nil || len(list.Items) > 1 {
				t.Fatalf("a page of %d VMs, %v", len(list.Items), err)
			}
			for _, vm := range list.Items {
				names = append(names, vm.Name)
			}
			cursor = list.Next
		}
		return names
	}
	first := list()
	before := s.Calls()["CreateContainerView"]
	s.AddVM(t, vmwaretest.VM{Name: "another"})
	second := list()
	if len(first) != 3 || before != 1 || s.Calls()["CreateContainerView"] != 2 {
		t.Errorf("for lists of %d and %d pages the inventory was looked at %d times, then %d", len(first), len(second), before, s.Calls()["CreateContainerView"]-before)
	}
	if slices.Contains(first, "another") || !slices.Contains(second, "another") {
		t.Errorf("the lists are %q, and %q", first, second)
	}
}
