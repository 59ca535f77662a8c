package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/vmware/transport/esxitest"
)

func openOver(t *testing.T, access *SSH, d Disk) disk.Remote {
	t.Helper()
	r, err := overSSH.Open(t.Context(), Access{SSH: access}, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestADiskIsReadOverSSH(t *testing.T) {
	for _, name := range []string{"web", "a b", "ünï+çode", `it's $(reboot) ; #%`} {
		e := newESXi(t)
		all := content()
		readsAs(t, openOver(t, e.access(t), e.disk(t, `D "S" `+name, name, all)), all)
		if n := e.Dials(); n != 1 {
			t.Errorf("%q: there were %d connections, want 1", name, n)
		}
	}
}

func TestAServerMaySendLessThanItIsAskedFor(t *testing.T) {
	e := newESXi(t)
	e.Most.Store(10_000)
	all := content()[:1<<20]
	readsAs(t, openOver(t, e.access(t), e.disk(t, "DS", "web", all)), all)
}

func TestLogInsOverSSH(t *testing.T) {
	signer, key := esxitest.NewKey(t)
	for name, c := range map[string]struct {
		set  func(*esxi, *SSH)
		want string // of the error, if there is to be one
	}{
		"a key": {func(e *esxi, s *SSH) {
			e.Change(func(c *ssh.ServerConfig) {
				c.PasswordCallback = nil
				c.PublicKeyCallback = func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
					if bytes.Equal(k.Marshal(), signer.PublicKey().Marshal()) {
						return nil, nil
					}
					return nil, errors.New("no")
				}
			})
			s.Key = keyFile(t, key, "")
		}, ""},
		"a key that is not the host's first": {func(e *esxi, s *SSH) {
			s.HostKeys = e.Known(t, e.second(t))
		}, ""},
		"questions": {func(e *esxi, s *SSH) {
			e.Change(func(c *ssh.ServerConfig) {
				c.PasswordCallback = nil
				c.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
					got, err := ask("", "", []string{"Password: "}, []bool{false})
					if err == nil && got[0] != password {
						err = errors.New("no")
					}
					return nil, err
				}
			})
		}, ""},
		"a fingerprint":    {func(e *esxi, s *SSH) { s.HostKeys, s.Fingerprint = "", ssh.FingerprintSHA256(e.Key.PublicKey()) }, ""},
		"a wrong password": {func(_ *esxi, s *SSH) { s.Password = func() string { return "wrong" } }, "refuses the user, the key or the password"},
		"no questions": {func(e *esxi, s *SSH) {
			e.Change(func(c *ssh.ServerConfig) {
				c.KeyboardInteractiveCallback = func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
					return nil, errors.New("no")
				}
			})
			s.Password = func() string { return "wrong" }
		}, "refuses the user, the key or the password"},
		"a locked key":        {func(_ *esxi, s *SSH) { s.Key = keyFile(t, key, "x") }, "has a passphrase"},
		"no key's file":       {func(_ *esxi, s *SSH) { s.Key = "/nonexistent" }, "no such file"},
		"another fingerprint": {func(_ *esxi, s *SSH) { s.HostKeys, s.Fingerprint = "", "SHA256:x" }, "and not SHA256:x, which is pinned"},
		"another host's key":  {func(e *esxi, s *SSH) { s.HostKeys = e.Known(t, signer.PublicKey()) }, "known_hosts:2: if the host was installed anew"},
		"an unknown host": {func(e *esxi, s *SSH) {
			s.HostKeys = filepath.Join(t.TempDir(), "empty")
			if err := os.WriteFile(s.HostKeys, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "has no key of the host: put its ssh-ed25519 key there, if SHA256:"},
		"nothing pinned": {func(_ *esxi, s *SSH) { s.HostKeys = "" }, "the hosts' keys are not pinned"},
		"no way in":      {func(_ *esxi, s *SSH) { s.Password = nil }, "give a private key or a password"},
	} {
		e := newESXi(t)
		all := content()[:1<<20]
		d := e.disk(t, "DS", "web", all)
		access := e.access(t)
		c.set(e, access)
		r, err := overSSH.Open(t.Context(), Access{SSH: access}, d)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: Open = %v", name, err)
				continue
			}
			readsAs(t, r, all)
			r.Close()
			continue
		}
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "handshake") {
			t.Errorf("%s: Open = %v, want %q", name, err, c.want)
		}
		if n := e.Dials(); n > 1 {
			t.Errorf("%s: a final error was tried %d times", name, n)
		}
	}
}

// TestALogInThatWasRefusedIsNotTriedAgain for a VM's other disks: hosts lock accounts.
func TestALogInThatWasRefusedIsNotTriedAgain(t *testing.T) {
	e := newESXi(t)
	d := e.disk(t, "DS", "web", content()[:1<<20])
	access := e.access(t)
	access.Password = func() string { return "wrong" }
	var disks sync.WaitGroup
	for range 3 { // which are opened side by side
		disks.Go(func() {
			if _, err := overSSH.Open(t.Context(), Access{SSH: access}, d); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "refuses the user") {
				t.Errorf("Open = %v", err)
			}
		})
	}
	disks.Wait()
	if n := e.Dials(); n != 1 {
		t.Errorf("the host was asked %d times", n)
	}
}

func TestFilesThatCannotBeReadOverSSH(t *testing.T) {
	e := newESXi(t)
	d := e.disk(t, "DS", "web", content()[:1<<20])
	for file, want := range map[string]string{
		"[DS] web/gone.vmdk":       "[DS] web/gone.vmdk is not on the host",
		"[DS] ../../../etc/passwd": "leads out of its datastore",
		"[../../etc] passwd":       "leads out of its datastore",
		"[..] etc/passwd":          "leads out of its datastore",
		"web/web.vmdk":             "is no path on a datastore",
		"[DS] web":                 "mode d",
		"[DS] web/../web/web.vmdk": "",
	} {
		d.Files = []string{file}
		r, err := overSSH.Open(t.Context(), Access{SSH: e.access(t)}, d)
		if want == "" && err == nil {
			r.Close()
			continue
		}
		if err == nil || !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q) = %v, want %q", file, err, want)
		}
	}
}

func TestACutConnectionIsMadeAnew(t *testing.T) {
	quick(t)
	e := newESXi(t)
	all := content()
	r := openOver(t, e.access(t), e.disk(t, "DS", "web", all))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			select {
			case <-stop:
			case <-time.After(20 * time.Millisecond):
				e.Cut()
			}
		}
	}()
	for range 4 {
		readsAs(t, r, all)
	}
	close(stop)
	<-done
	e.Cut()
	readsAs(t, r, all)
	if n := e.Dials(); n < 2 || n > 5 {
		t.Errorf("there were %d connections", n)
	}
}

func TestAHostThatIsGoneIsAnErrorAfterSomeTries(t *testing.T) {
	quick(t)
	e := newESXi(t)
	r := openOver(t, e.access(t), e.disk(t, "DS", "web", content()))
	e.Stop()
	e.Cut()
	began := time.Now()
	err := r.Read(t.Context(), make([]byte, 512), 0)
	if err == nil || !strings.Contains(err.Error(), "start the SSH service of the ESXi host") || errors.Is(err, ErrUnusable) {
		t.Errorf("Read = %v", err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it gave up after %v", took)
	}
}

func TestAChangedFileIsAnError(t *testing.T) {
	e := newESXi(t)
	r := openOver(t, e.access(t), e.disk(t, "DS", "web", content()))
	if err := os.Truncate(filepath.Join(e.Root, "vmfs/volumes/DS/web/web-flat.vmdk"), 4<<20); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{5 << 20, 0} {
		if err := r.Read(t.Context(), make([]byte, 512), off); err == nil || !strings.Contains(err.Error(), "something writes it") {
			t.Errorf("Read at %d = %v", off, err)
		}
	}
}

func TestASilentHostIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		stall, alive time.Duration
		deaf         bool
		want         string
	}{
		"by an answer that is late":   {100 * time.Millisecond, time.Minute, false, "does not answer within 100ms"},
		"by the lack of a keep-alive": {time.Minute, 50 * time.Millisecond, true, "connection lost"},
	} {
		quick(t)
		usual.stall, sshKeepAlive = c.stall, c.alive
		e := newESXi(t)
		r := openOver(t, e.access(t), e.disk(t, "DS", "web", content()))
		e.Silent.Store(true)
		e.Deaf.Store(c.deaf)
		began := time.Now()
		if err := r.Read(t.Context(), make([]byte, 512), 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Read = %v, want %q", name, err, c.want)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
	}
}

// TestAHostThatIsAliveIsWaitedFor: a host that is slow is none that is dead.
func TestAHostThatIsAliveIsWaitedFor(t *testing.T) {
	quick(t)
	usual.stall, sshKeepAlive = time.Minute, 250*time.Millisecond
	e := newESXi(t)
	all := content()
	r := openOver(t, e.access(t), e.disk(t, "DS", "web", all))
	e.Slow.Store(true)
	reads(t, r, all)
	if n := e.Dials(); n != 1 {
		t.Errorf("there were %d connections, want 1", n)
	}
}

func TestAReadOverSSHEndsWithItsContext(t *testing.T) {
	e := newESXi(t)
	r := openOver(t, e.access(t), e.disk(t, "DS", "web", content()))
	e.Silent.Store(true)
	ours := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, ours)
	defer cancel()
	began := time.Now()
	if err := r.Read(ctx, make([]byte, 512), 0); !errors.Is(err, ours) || time.Since(began) > 2*time.Second {
		t.Errorf("Read = %v after %v, want the context's cause", err, time.Since(began))
	}
}

func TestAHostWithoutSSHIsToldOf(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := newESXi(t)
	d, access := e.disk(t, "DS", "web", content()), e.access(t)
	access.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	if _, err := overSSH.Open(t.Context(), Access{SSH: access}, d); err == nil || !strings.Contains(err.Error(), "start the SSH service") {
		t.Errorf("Open = %v", err)
	}
}

func TestSSHConforms(t *testing.T) {
	quick(t)
	conform(t, func(t *testing.T) subject {
		e, raw := newESXi(t), content()
		d := e.disk(t, "DS 1", "web", raw)
		return subject{overSSH, Access{SSH: e.access(t)}, d, raw, func() {
			must(0, os.RemoveAll(filepath.Join(e.Root, "vmfs")))(t)
			e.Cut()
		}}
	})
}
