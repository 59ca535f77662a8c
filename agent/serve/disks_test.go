package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/disks"
	"hyper2kvm/fixers/guest/guesttest"
	"hyper2kvm/pipeline/disk/loop/looptest"
	"hyper2kvm/pipeline/proc"
)

// plugs are loop devices of a test's that an agent takes for attached disks. They prove
// the kernel's paths; not that a disk says who it is, nor that one goes while it is read.
type plugs struct {
	mu  sync.Mutex
	all map[string]bool
}

func (p *plugs) has(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[name]
}

// plug shows a file as a disk, and unplug takes it away again.
func (p *plugs) plug(t *testing.T, file string) (node string) {
	t.Helper()
	node = looptest.Device(t, file)
	t.Cleanup(func() { // the next that is attached there would be read-only too
		if err := writable(node); err != nil {
			t.Error(err)
		}
	})
	p.set(node, true)
	return node
}

func writable(node string) (err error) {
	f, err := os.Open(node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 0)
}

func (p *plugs) set(node string, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[filepath.Base(node)] = there
}

// plugged is an agent to which disks can be attached, and what starts it again.
func plugged(t *testing.T) (a *appliance, p *plugs, again func() *appliance) {
	t.Helper()
	guesttest.Slow(t, slices.Concat(guesttest.SmallPrograms, []string{"qemu-img", "qemu-storage-daemon", "debugfs", "blkid"})...)
	p = &plugs{all: map[string]bool{}}
	folder, m := t.TempDir(), disks.ThisMachine()
	m.Run, m.Extra = filepath.Join(folder, "storages"), p.has
	a = startedOn(t, folder, "", nobodyYet, m)
	return a, p, func() *appliance {
		a.stop(t)
		return startedOn(t, folder, "", nobodyYet, m)
	}
}

// blank makes an empty file.
func blank(t *testing.T, size int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "blank")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	return file
}

// on finds the disk at a node.
func (a *appliance) on(t *testing.T, node string) model.Disk {
	t.Helper()
	for _, d := range asked[struct{ Items []model.Disk }](t, a, "/disks", 200).Items {
		if d.Device == node {
			return d
		}
	}
	t.Fatalf("%s is not among the disks", node)
	return model.Disk{}
}

// use chooses what a disk is for, and holds the answer to what is wanted.
func (a *appliance) use(t *testing.T, id, use string, want int) (text []byte) {
	t.Helper()
	status, text := a.send(t, "PUT", "/disks/"+url.PathEscape(id)+"/use", use)
	if status != want {
		t.Fatalf("%s for %s is answered with %d %s, want %d", use, id, status, text, want)
	}
	return text
}

// TestAGuestGoesFromOneDiskToAnother through the API alone, and nothing of the source is
// written.
func TestAGuestGoesFromOneDiskToAnother(t *testing.T) {
	a, p, again := plugged(t)
	small := filepath.Join(t.TempDir(), "small")
	if err := guesttest.Small(t.Context(), small, guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(small)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("not a file system "), 1<<18)[:4<<20]
	second := blank(t, int64(len(data)))
	if err := os.WriteFile(second, data, 0o600); err != nil {
		t.Fatal(err)
	}
	source, target := p.plug(t, small), p.plug(t, blank(t, int64(len(was))+8<<20))
	from, to := a.on(t, source), a.on(t, target)
	more, small2 := a.on(t, p.plug(t, second)), p.plug(t, blank(t, int64(len(data)-512)))
	if from.Holds != "Linux, 1 partition" || to.Holds != "empty" || more.Holds != "something that is not known here" {
		t.Errorf("the disks are %+v, %+v and %+v", from, to, more)
	}
	spec := fmt.Sprintf(`{"name":"web01","source":{"disks":[%q,%q]},"target":{"storage":"to","disk":%q},"engine":"direct","approval":"required","test":{"skip":"not part of this"}}`, from.ID, more.ID, to.ID)
	if status, text := a.send(t, "POST", "/migrations", `{"spec":`+spec+`}`); status != 422 || !bytes.Contains(text, []byte("chosen as source")) {
		t.Errorf("disks that were not chosen: %d %s", status, text)
	}
	a.use(t, from.ID, `{"as":"source"}`, 200)
	a.use(t, more.ID, `{"as":"source"}`, 200)
	a.use(t, to.ID, `{"as":"target"}`, 422)
	a.use(t, to.ID, fmt.Sprintf(`{"as":"target","confirm":%q}`, to.ID), 200)
	a.begin(t, "web01", spec)
	m := a.settles(t, "web01")
	if m.State != model.StatePlanned {
		t.Fatalf("it is %+v", m)
	}
	for _, id := range []string{from.ID, to.ID} {
		if status, text := a.send(t, "DELETE", "/disks/"+id+"/use", ""); status != 409 || !bytes.Contains(text, []byte("web01")) {
			t.Errorf("%s is released while a migration uses it: %d %s", id, status, text)
		}
	}
	a = again()
	if status, text := a.send(t, "POST", "/migrations/web01/approve", fmt.Sprintf(`{"digest":%q}`, m.Plan.Digest)); status != 202 {
		t.Fatalf("%d %s", status, text)
	}
	if m = a.settles(t, "web01"); m.State != model.StateDone {
		t.Fatalf("it is %+v", m)
	}
	now, err := os.ReadFile(small)
	if err != nil || !bytes.Equal(now, was) {
		t.Errorf("the source was written to, %v", err)
	}
	isMigrated(t, target, was)
	a.described(t, to)
	a.small(t, from, a.on(t, small2))
	if status, text := a.send(t, "POST", "/migrations/web01/verify", `{"againstSource":true}`); status != 202 {
		t.Fatalf("%d %s", status, text)
	}
	if m := a.settles(t, "web01"); m.State != model.StateDone || len(m.Operations[len(m.Operations)-1].Verified) != 4 {
		t.Errorf("verified it is %+v", m)
	}
	a.begin(t, "second", strings.Replace(strings.Replace(spec, "web01", "second", 1), `"approval":"required",`, "", 1))
	if m := a.settles(t, "second"); m.State != model.StateFailed || !strings.Contains(m.Problem.Detail, "web01 has written to") {
		t.Errorf("a second guest on it is %+v", m)
	}
	for _, id := range []string{from.ID, more.ID, to.ID} {
		a.release(t, id)
	}
}

// small holds a disk that is smaller than the guest's to being refused, by one disk of
// that alone.
func (a *appliance) small(t *testing.T, from, to model.Disk) {
	t.Helper()
	a.use(t, to.ID, fmt.Sprintf(`{"as":"target","confirm":%q}`, to.ID), 200)
	a.begin(t, "small", fmt.Sprintf(`{"source":{"disk":%q},"target":{"storage":"to","disk":%q},"engine":"direct","test":{"skip":"not part of this"}}`, from.ID, to.ID))
	if m := a.settles(t, "small"); m.State != model.StateFailed || !strings.Contains(m.Problem.Detail, "give a larger device") {
		t.Errorf("a guest on a disk that is too small is %+v", m)
	}
	a.release(t, to.ID)
}

func (a *appliance) release(t *testing.T, id string) {
	t.Helper()
	if status, text := a.send(t, "DELETE", "/disks/"+id+"/use", ""); status != 204 {
		t.Errorf("%s is released with %d %s", id, status, text)
	}
}

// isMigrated holds a disk to the source's bytes, but for few blocks: the fixers' edits and
// what mounting writes. The guest's own files are read by another program.
func isMigrated(t *testing.T, node string, was []byte) {
	t.Helper()
	now, err := os.ReadFile(node)
	if err != nil || len(now) < len(was) {
		t.Fatalf("%d bytes, %v", len(now), err)
	}
	const block, most = 4096, 16
	changed := 0
	for at := 0; at < len(was); at += block {
		if !bytes.Equal(was[at:at+block], now[at:at+block]) {
			changed++
		}
	}
	if changed == 0 || changed > most {
		t.Errorf("%d of %d blocks are other than the source's", changed, len(was)/block)
	}
	if rest := now[len(was):]; !bytes.Equal(rest, make([]byte, len(rest))) {
		t.Error("behind the guest's disk there is something")
	}
	for file, want := range map[string]string{"/etc/hostname": "small\n", "/etc/fstab": "UUID=6c1c6a32-5a5c-4a52-8d68-0a5f2f5b7f11"} {
		text, err := proc.Run(t.Context(), "debugfs", "-R", "cat "+file, node+"?offset=1048576")
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s is %q, %v", file, text, err)
		}
	}
}

// described holds the results to a disk's lasting name.
func (a *appliance) described(t *testing.T, d model.Disk) {
	t.Helper()
	xml, err := os.ReadFile(filepath.Join(a.folder, "to", "web01", "web01.xml"))
	if err != nil || !strings.Contains(string(xml), fmt.Sprintf(`<source dev="%s">`, d.Path)) {
		t.Errorf("the domain is %s, %v", xml, err)
	}
	report, err := os.ReadFile(filepath.Join(a.folder, "to", "web01", "web01-report.md"))
	if err != nil || !strings.Contains(string(report), "guess") {
		t.Errorf("the report does not say that hardware was guessed: %v\n%s", err, report)
	}
}

// TestResultsGoToAFileSystemOnADisk, which then is a storage like any other, and none
// once the disk is gone.
func TestResultsGoToAFileSystemOnADisk(t *testing.T) {
	a, p, _ := plugged(t)
	if err := guesttest.Small(t.Context(), filepath.Join(a.folder, "from", "small.raw"), guesttest.SmallFstab); err != nil {
		t.Fatal(err)
	}
	node := p.plug(t, blank(t, 128<<20))
	d := a.on(t, node)
	var now model.Disk
	if err := json.Unmarshal(a.use(t, d.ID, fmt.Sprintf(`{"as":"storage","use":"both","name":"stick","format":"ext4","confirm":%q}`, d.ID), 200), &now); err != nil {
		t.Fatal(err)
	}
	spec := `{"name":"web01","source":{"storage":"from","path":"small.raw"},"target":{"storage":"stick"},"engine":"direct","test":{"skip":"not part of this"}}`
	a.begin(t, "web01", spec)
	if m := a.settles(t, "web01"); m.State != model.StateDone || m.Folder.Storage != "stick" {
		t.Fatalf("it is %+v", m)
	}
	files := asked[model.StorageFileList](t, a, "/storages/stick/files?path=web01", 200).Items
	if !slices.ContainsFunc(files, func(f model.StorageFile) bool { return f.Name == "web01-disk0.qcow2" }) {
		t.Errorf("on the disk are %+v", files)
	}
	p.set(node, false)
	a.reaches(t, "stick", false)
	if status, text := a.send(t, "POST", "/migrations", `{"spec":`+spec+`}`); status != 422 {
		t.Errorf("without its disk: %d %s", status, text)
	}
	if v := asked[model.Disk](t, a, "/disks/"+now.ID, 200); v.Present || v.Use.Name != "stick" || v.Note == "" {
		t.Errorf("a disk that is gone is %+v", v)
	}
	p.set(node, true)
	a.reaches(t, "stick", true)
	a.release(t, now.ID)
	a.reaches(t, "stick", false)
}

// reaches waits until a storage is listed, or is not.
func (a *appliance) reaches(t *testing.T, name string, want bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		list := asked[struct{ Items []model.Storage }](t, a, "/storages", 200).Items
		if slices.ContainsFunc(list, func(s model.Storage) bool { return s.Name == name }) == want {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("the storages are %+v", list)
		}
	}
}
