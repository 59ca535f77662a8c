package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/testers"
	"hyper2kvm/testers/watch"
)

func TestADaemonElsewhereIsRefused(t *testing.T) {
	for uri, ok := range map[string]bool{
		"qemu:///system": true, "qemu:///session": true, "qemu+unix:///system?socket=/run/x": true,
		"qemu+ssh://host/system": false, "qemu://host/system": false, "xen:///system": false, "test:///default": false, "system": false, "%": false,
	} {
		if err := checkURI(uri); (err == nil) != ok || err != nil && !errors.Is(err, ErrURI) {
			t.Errorf("checkURI(%q) = %v, want it to be accepted: %v", uri, err, ok)
		}
	}
}

// The words are libvirt 9's and its binding's.
func TestAnUnreachableDaemonSaysWhatToDo(t *testing.T) {
	for said, try := range map[string]string{
		"Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory":                 "systemctl start libvirtd",
		"Failed to connect socket to '/var/run/libvirt/libvirt-sock': Connection refused":                        "systemctl start libvirtd",
		"Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied":                         "join the group libvirt",
		"authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'": "join the group libvirt",
		"no connection driver available for qemu:///system":                                                      "libvirt-daemon-driver-qemu",
		"libvirt.so.0: cannot open shared object file: No such file or directory":                                "libvirt is not installed",
		"End of file while reading data: Input/output error":                                                     "",
	} {
		err := unreachable("qemu:///system", said)
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), try) || !strings.Contains(err.Error(), said) {
			t.Errorf("%s: %v, want %q", said, err, try)
		}
	}
}

// Capabilities of real daemons, cut down to what is read.
func TestTheUserOfQEMUIsReadFromTheCapabilities(t *testing.T) {
	const head, tail = "<capabilities><host>", "</host></capabilities>"
	own := host{user: os.Geteuid(), group: os.Getegid()}
	for models, want := range map[string]host{
		"<secmodel><model>none</model><doi>0</doi></secmodel>": own,
		"<secmodel><model>none</model></secmodel><secmodel><model>dac</model><baselabel type='kvm'>+0:+0</baselabel><baselabel type='qemu'>+64055:+104</baselabel></secmodel>": {user: 64055, group: 104},
		"<secmodel><model>apparmor</model></secmodel><secmodel><model>dac</model><baselabel type='qemu'>+1:+2</baselabel></secmodel>":                                          {user: 1, group: 2, confines: []string{"apparmor"}},
	} {
		got, err := hostOf(head + models + tail)
		if err != nil || got.user != want.user || got.group != want.group || !slices.Equal(got.confines, want.confines) {
			t.Errorf("hostOf(%s) = %+v, %v, want %+v", models, got, err, want)
		}
	}
	for _, wrong := range []string{"no XML", head + "<secmodel><model>dac</model></secmodel>" + tail,
		head + "<secmodel><model>dac</model><baselabel type='qemu'>root</baselabel></secmodel>" + tail} {
		if h, err := hostOf(wrong); err == nil {
			t.Errorf("hostOf(%s) = %+v, want an error", wrong, h)
		}
	}
}

func TestAnUnenterableFolderIsExplained(t *testing.T) {
	h := host{user: 64055}
	denied := errors.New("Failed to connect to '/root/tmp/h2k-1/serial': Permission denied")
	if err := h.hint(denied, "/root/tmp/h2k-1"); !errors.Is(err, denied) || !strings.Contains(err.Error(), "set TMPDIR to a folder that libvirt's QEMU, which runs as user 64055") {
		t.Errorf("hint = %v", err)
	}
	if other := errors.New("no memory"); h.hint(other, "/tmp") != other {
		t.Error("another error is explained too")
	}
}

func TestSocketsAreLentToQEMUsUserAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	folder := t.TempDir()
	socket := filepath.Join(folder, "serial")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (host{user: 64055, group: 64056}).lend([]string{socket}); err != nil {
		t.Fatal(err)
	}
	if got := ownership(t, socket); got != "64055:64056 -rw-------" {
		t.Errorf("the socket is %s", got)
	}
	if got := ownership(t, folder); got != "0:64056 drwx--x---" {
		t.Errorf("its folder is %s", got)
	}
}

func TestEventsNeverMakeLibvirtWait(t *testing.T) {
	n := newNews()
	for range maxWaiting + 3 {
		n.event(qmp.Event{Name: "RTC_CHANGE"})
	}
	n.end("stopped: shutdown")
	n.end("the connection to libvirt was lost")
	n.event(qmp.Event{Name: "RESET"})
	read := 0
	for range n.Events() {
		read++
	}
	<-n.Done()
	if read != maxWaiting || n.Lost() != 3 || n.LastWords() != "stopped: shutdown" {
		t.Errorf("%d events read, %d lost, ended by %q", read, n.Lost(), n.LastWords())
	}
}

// fake is a daemon and its one domain. What a test does not script is an error.
type fake struct {
	refusal  error
	runs     func(f *fake) // what the guest does once it is resumed
	hangs    chan struct{} // what questions wait for; nil: they do not
	xml      string
	event    func(qmp.Event)
	end      func(string)
	resumed  bool
	destroys int
}

var errUnasked = errors.New("the fake was asked for what the test does not know of")

func (f *fake) Version() (string, error)      { return "", errUnasked }
func (f *fake) Capabilities() (string, error) { return "", errUnasked }
func (f *fake) Close() error                  { return errUnasked }
func (f *fake) Defines(id string) (bool, error) {
	if id != uuid {
		return false, errUnasked
	}
	return false, nil
}

func (f *fake) Create(xml string) (handle, error) {
	f.xml = xml
	return f, f.refusal
}

func (f *fake) Follow(event func(qmp.Event), end func(string)) error {
	f.event, f.end = event, end
	return nil
}

func (f *fake) Resume() error {
	f.resumed = true
	if f.event == nil {
		return errUnasked // what happens now is missed
	}
	f.runs(f)
	return nil
}

func (f *fake) wait() error {
	if f.hangs != nil {
		<-f.hangs
	}
	return nil
}

func (f *fake) Screenshot() ([]byte, string, error) { return []byte("picture"), "image/png", f.wait() }
func (f *fake) SendKeys([]int) error                { return errUnasked }
func (f *fake) Peek(int64, int64) ([]byte, error)   { return nil, errUnasked }
func (f *fake) Operations() (watch.Operations, error) {
	return watch.Operations{Writes: 1}, f.wait()
}
func (f *fake) Destroy() error {
	f.destroys++
	return nil
}

// boot runs a session of web01 without the probe on a fake.
func boot(ctx context.Context, t *testing.T, f *fake) (testers.Session, error) {
	p := emitted(t, "bios", accel.TCG)
	p.spec.Key, p.spec.Dir = nil, t.TempDir()
	for i := range p.spec.Disks {
		p.spec.Disks[i].Socket = filepath.Join(t.TempDir(), "nbd")
		if err := os.WriteFile(p.spec.Disks[i].Socket, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := host{by: "libvirt 9.0.0, qemu:///system", user: os.Geteuid(), group: os.Getegid()}
	return watch.Boot(ctx, p.spec, &hypervisor{daemon: f, host: h})
}

func TestADomainThatShutsDownIsSeenAndEnded(t *testing.T) {
	f := &fake{runs: func(f *fake) {
		f.event(qmp.Event{Name: "RESUME", At: time.Now()})
		f.event(qmp.Event{Name: "SHUTDOWN", Data: []byte(`{"guest":true}`), At: time.Now()})
		f.end("stopped: shutdown")
	}}
	s, err := boot(t.Context(), t, f)
	if err != nil {
		t.Fatal(err)
	}
	if s.End != testers.Stopped || len(s.Events) != 2 || s.By != "libvirt 9.0.0, qemu:///system" || len(s.Differences) < 5 || f.destroys != 1 {
		t.Errorf("session %+v, destroyed %d times", s, f.destroys)
	}
	if !strings.Contains(f.xml, "web01-proof-") {
		t.Errorf("started %s", f.xml)
	}
}

func TestADomainThatLibvirtEndsHasDied(t *testing.T) {
	f := &fake{runs: func(f *fake) { f.end("stopped: failed") }}
	s, err := boot(t.Context(), t, f)
	if err != nil || s.End != testers.Died || !strings.Contains(s.Detail, "stopped: failed") {
		t.Errorf("end %q (%s), %v", s.End, s.Detail, err)
	}
}

func TestADomainThatLibvirtRefusesIsNotProved(t *testing.T) {
	f := &fake{refusal: errors.Join(watch.ErrRefused, errors.New("unsupported configuration: no SMM"))}
	s, err := boot(t.Context(), t, f)
	if err != nil || s.End != testers.Refused || f.resumed || f.destroys != 0 {
		t.Fatalf("session %+v, %v; resumed %v, destroyed %d times", s, err, f.resumed, f.destroys)
	}
	s.Filesystems = []testers.Filesystem{{Device: "disk0p1", Type: "ext4", Clean: true}}
	if o := testers.Judge(testers.Expect{}, s, testers.Session{}); o.Proved || !strings.Contains(o.Cause, "no SMM") {
		t.Errorf("proved %v, cause %q", o.Proved, o.Cause)
	}
}

func TestAnyOtherErrorOfTheStartIsNoVerdict(t *testing.T) {
	broken := errors.New("cannot fork")
	if _, err := boot(t.Context(), t, &fake{refusal: broken}); !errors.Is(err, broken) {
		t.Errorf("Boot = %v, want %v", err, broken)
	}
}

var errLeft = errors.New("interrupted")

func TestAnInterruptedSessionEndsItsDomain(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	f := &fake{runs: func(*fake) { cancel(errLeft) }}
	if _, err := boot(ctx, t, f); !errors.Is(err, errLeft) || f.destroys != 1 {
		t.Errorf("Boot = %v, destroyed %d times", err, f.destroys)
	}
}

func TestAnAnswerThatNeverComesIsNotWaitedFor(t *testing.T) {
	hangs := make(chan struct{})
	defer close(hangs)
	d := &domain{handle: &fake{hangs: hangs}, news: newNews()}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeft)
	if _, err := d.Picture(ctx); !errors.Is(err, errLeft) {
		t.Errorf("Picture = %v, want %v", err, errLeft)
	}
}

func TestADomainThatNobodyWaitsForIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeft)
	f := &fake{}
	if _, err := (&hypervisor{daemon: f}).create(ctx, ""); !errors.Is(err, errLeft) || f.destroys != 1 {
		t.Errorf("create = %v, destroyed %d times", err, f.destroys)
	}
}

// A program that was not built with libvirt, or has none here, says so.
func TestWithoutLibvirtCheckSaysSo(t *testing.T) {
	err := Check(t.Context(), "qemu+unix:///session?socket=/nowhere")
	if Available && !errors.Is(err, ErrUnreachable) || !Available && !errors.Is(err, ErrNotBuilt) {
		t.Errorf("Check = %v (built with libvirt: %v)", err, Available)
	}
}

func ownership(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d %v", s.Uid, s.Gid, info.Mode())
}
