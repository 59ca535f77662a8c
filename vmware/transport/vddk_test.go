package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/nbd"
	"hyper2kvm/vmware/transport/esxitest"
	"hyper2kvm/vmware/transport/vddktest"
)

// vddkLab is a disk that the stand-in for VMware's library has.
type vddkLab struct {
	Access
	Disk
	content []byte
	dir     string
}

const password = esxitest.Password

func newVDDKLab(t *testing.T) *vddkLab {
	t.Helper()
	built := vddktest.Need(t)
	l := &vddkLab{content: content(), dir: t.TempDir()}
	sparse(t, filepath.Join(l.dir, "DS 1", "wëb 'x'", "web 1-flat.vmdk"), l.content)
	for name, value := range map[string]string{"ROOT": l.dir, "LOG": l.log(), "THUMBPRINT": "AA:BB", "PASSWORD": password,
		"DIE": l.file("die"), "FAIL": l.file("fail"), "CUT": l.file("cut")} {
		t.Setenv("FAKE_VDDK_"+name, value)
	}
	l.Access = Access{
		Server: &url.URL{Scheme: "https", Host: "vc.example"}, Thumbprint: "AA:BB",
		Login: func() (string, string) { return "ann", password },
		VDDK:  built.Library, VDDKPlugin: built.Plugin,
	}
	l.Disk = Disk{VM: "vm-42", Files: []string{"[DS 1] wëb 'x'/web 1.vmdk"}, Size: int64(len(l.content))}
	return l
}

func (l *vddkLab) file(name string) string { return filepath.Join(l.dir, name) }
func (l *vddkLab) log() string             { return l.file("log") }

// said is what the library was asked.
func (l *vddkLab) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(l.log())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// put makes a file that the library looks for.
func (l *vddkLab) put(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(l.file(name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (l *vddkLab) open(t *testing.T) *vddkDisk {
	t.Helper()
	r, err := vddk.Open(t.Context(), l.Access, l.Disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r.(*vddkDisk)
}

func TestADiskIsReadThroughVDDK(t *testing.T) {
	l := newVDDKLab(t)
	l.Access.VDDKModes, l.Disk.Snapshot = "san:nbdssl", "snapshot-7"
	r := l.open(t)
	readsAs(t, r, l.content)
	if got, want := zeroes(t, r), holes(l.content); got != want {
		t.Errorf("%d bytes are said to be zero, want %d", got, want)
	}
	for _, want := range []string{
		"connect vm=moref=vm-42 server=vc.example port=0 thumbprint=AA:BB user=ann read_only=1 snapshot=snapshot-7 modes=san:nbdssl\n",
		"open [DS 1] wëb 'x'/web 1.vmdk flags=0x4\n",
	} {
		if !strings.Contains(l.said(t), want) {
			t.Errorf("the library was not asked %q, but %s", want, l.said(t))
		}
	}
}

func TestThePasswordIsNowhere(t *testing.T) {
	l := newVDDKLab(t)
	r := l.open(t)
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", r.server.Pid(), name))
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("FAKE_VDDK_PASSWORD="+password), nil)
		if bytes.Contains(text, []byte(password)) {
			t.Errorf("the password is in nbdkit's %s: %q", name, text)
		}
	}
	info, err := os.Stat(passwordIn(r.dir))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the password's file has mode %v, %v", info.Mode(), err)
	}
	dir, pid := r.dir, r.server.Pid()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{dir, fmt.Sprintf("/proc/%d", pid)} {
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("%s is there after Close", gone)
		}
	}
	if err := r.Read(t.Context(), make([]byte, 1), 0); !errors.Is(err, errClosed) {
		t.Errorf("Read after Close = %v", err)
	}
}

func TestVDDKReadsAreInFlightTogether(t *testing.T) {
	l := newVDDKLab(t)
	t.Setenv("FAKE_VDDK_SLOW", "1000")
	r := l.open(t)
	var all sync.WaitGroup
	for i := range int64(8) {
		all.Go(func() {
			if err := r.Read(t.Context(), make([]byte, 4096), i<<19); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(l.said(t), "exit, 8 reads at a time") {
		t.Errorf("not 8 reads were in flight together: %s", l.said(t))
	}
}

func TestNbdkitIsStartedOnceMore(t *testing.T) {
	for _, how := range []string{"die", "cut"} {
		t.Run(how, func(t *testing.T) {
			l := newVDDKLab(t)
			r := l.open(t)
			l.put(t, how)
			readsAs(t, r, l.content)
			if n := strings.Count(l.said(t), "open "); n != 2 {
				t.Errorf("the disk was opened %d times, want 2", n)
			}
			l.put(t, how)
			err := r.Read(t.Context(), make([]byte, 512), 0)
			if err == nil || strings.Count(l.said(t), "open ") != 2 {
				t.Errorf("Read after nbdkit broke twice = %v; %s", err, l.said(t))
			}
		})
	}
}

// TestAnNbdkitThatFallsSilentIsGivenUp: the next one is asked, and when that is silent too
// the read ends with an error.
func TestAnNbdkitThatFallsSilentIsGivenUp(t *testing.T) {
	l := newVDDKLab(t)
	r := l.open(t)
	r.silence = 300 * time.Millisecond
	if err := errors.Join(r.stop(), r.start(t.Context())); err != nil { // for that
		t.Fatal(err)
	}
	for _, want := range []error{nil, nbd.ErrSilent} {
		if err := syscall.Kill(r.server.Pid(), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- r.Read(t.Context(), make([]byte, 512), 0) }()
		select {
		case err := <-done:
			if !errors.Is(err, want) {
				t.Errorf("Read = %v, want %v", err, want)
			}
		case <-time.After(time.Minute):
			t.Fatal("it is waited for still")
		}
	}
}

// TestACancelledReadDoesNotLoseTheDisk: it is another's read that takes the next nbdkit.
func TestACancelledReadDoesNotLoseTheDisk(t *testing.T) {
	l := newVDDKLab(t)
	r := l.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.connection(ctx, r.client, errors.New("broken")); !errors.Is(err, context.Canceled) {
		t.Errorf("connection = %v, want the cause of the context", err)
	}
	readsAs(t, r, l.content)
}

func TestVDDKSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*vddkLab)
		want string
	}{
		"the thumbprint": {func(l *vddkLab) { l.Access.Thumbprint = "CC:DD" }, "the server's certificate has the thumbprint AA:BB and not the one that is pinned"},
		"the password":   {func(l *vddkLab) { l.Login = func() (string, string) { return "ann", "wrong" } }, "refuses the user or the password"},
		"the file":       {func(l *vddkLab) { l.Files = []string{"[DS 1] gone/gone.vmdk"} }, "the server has no such file of a disk"},
		"port 902": {func(*vddkLab) {
			t.Setenv("FAKE_VDDK_REFUSE", "14009")
			t.Setenv("FAKE_VDDK_SAY", "[NFC ERROR]NfcNewAuthdConnectionEx: Failed to connect to peer. Error: Failed to connect to server esx1:902")
		}, "port 902 of the ESXi host esx1 cannot be reached"},
		"nobody knows": {func(*vddkLab) { t.Setenv("FAKE_VDDK_REFUSE", "1"); t.Setenv("FAKE_VDDK_SAY", "") }, "VMware's library does not say what is wrong"},
		"a password that is told": {func(*vddkLab) {
			t.Setenv("FAKE_VDDK_REFUSE", "1")
			t.Setenv("FAKE_VDDK_SAY", "libvixDiskLib: : "+password)
		}, "does not say"},
		"the size": {func(l *vddkLab) { t.Setenv("FAKE_VDDK_REFUSE", ""); l.Size = 12 << 20 }, "its disk has 6330880 bytes, and the inventory's 12582912"},
	} {
		l := newVDDKLab(t)
		c.set(l)
		_, err := vddk.Open(t.Context(), l.Access, l.Disk)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password) {
			t.Errorf("%s: Open = %v, want %q", name, err, c.want)
		}
		t.Setenv("FAKE_VDDK_REFUSE", "")
	}
}

func TestVDDKReadErrorsAreSentences(t *testing.T) {
	l := newVDDKLab(t)
	r := l.open(t)
	l.put(t, "fail")
	if err := r.Read(t.Context(), make([]byte, 512), 0); err == nil || !strings.Contains(err.Error(), "refused the connection on its port 902") {
		t.Errorf("Read = %v", err)
	}
	if err := os.Remove(l.file("fail")); err != nil {
		t.Fatal(err)
	}
	readsAs(t, r, l.content) // an error of the host's is not the end
}

func TestVDDKIsUnusableWithAReason(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*vddkLab)
		want string
	}{
		"no library":      {func(l *vddkLab) { l.VDDK = "" }, "VMware's library is not here"},
		"no folder":       {func(l *vddkLab) { l.VDDK = "/nonexistent" }, "no such file or directory: upload"},
		"an empty folder": {func(l *vddkLab) { l.VDDK = l.dir }, "has no lib64/libvixDiskLib.so.N"},
		"no plugin":       {func(l *vddkLab) { l.VDDKPlugin = "/nonexistent.so" }, "nbdkit has no vddk plugin"},
		"no log-in":       {func(l *vddkLab) { l.Login = nil }, "no user and password"},
		"no thumbprint":   {func(l *vddkLab) { l.Thumbprint = "" }, "the thumbprint of the server's certificate is not known"},
		"a damaged library": {func(l *vddkLab) {
			l.VDDK = l.file("damaged")
			sparse(t, filepath.Join(l.VDDK, "lib64", "libvixDiskLib.so.8"), make([]byte, 100))
		}, "does not load: VMware's library is damaged (invalid ELF header)"},
	} {
		l := newVDDKLab(t)
		c.set(l)
		_, err := vddk.Open(t.Context(), l.Access, l.Disk)
		if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Open = %v, want %q", name, err, c.want)
		}
	}
}

// TestAnOldLibraryHasNoMap: what the server tells of the disk is used then.
func TestAnOldLibraryHasNoMap(t *testing.T) {
	l := newVDDKLab(t)
	l.Access.VDDK = vddktest.Need(t).Old
	if got, err := ProbeVDDK(t.Context(), l.Access); err != nil || got.Version != "6" || got.Mapped {
		t.Errorf("ProbeVDDK = %+v, %v", got, err)
	}
	readsAs(t, l.open(t), l.content)
	l.Disk.Allocated = func(_ context.Context, off, n int64) ([]disk.Allocation, error) {
		return []disk.Allocation{{Offset: off, Length: n, Zero: off >= l.Size-512}}, nil
	}
	r, err := vddk.Open(t.Context(), l.Access, l.Disk)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list, err := r.Extents(t.Context(), l.Size-100, 100)
	if err != nil || len(list) != 1 || !list[0].Zero {
		t.Errorf("Extents = %v, %v, want what the server told", list, err)
	}
}

func TestVDDKConforms(t *testing.T) {
	conform(t, func(t *testing.T) subject {
		l := newVDDKLab(t)
		return subject{vddk, l.Access, l.Disk, l.content, func() {
			must(0, os.RemoveAll(l.file("DS 1")))(t)
			l.put(t, "cut")
		}}
	})
}
