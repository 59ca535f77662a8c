package vmwaretest_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"hyper2kvm/vmware/vmwaretest"
)

func TestACallFailsAsOftenAsItIsTold(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	s.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Fault: &types.ResourceInUse{}, After: 1, Times: 2})
	for i, fails := range []bool{false, true, true, false} {
		task, err := object.NewVirtualMachine(c.Client, v.Ref).CreateSnapshot(context.Background(), "x", "", false, false)
		if fault.Is(err, &types.ResourceInUse{}) != fails {
			t.Errorf("call %d: %v", i, err)
		}
		if err == nil {
			wait(t, task, nil)
		}
	}
}

func TestATaskFailsAndTheArrangerIsSpared(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	s.Fail(vmwaretest.Trouble{Method: "CreateSnapshot_Task", Task: true, Fault: &types.ApplicationQuiesceFault{}, When: vmwaretest.Quiesced})
	s.Snapshot(t, v.Ref, "the arranger's")
	vm := object.NewVirtualMachine(c.Client, v.Ref)
	task, err := vm.CreateSnapshot(context.Background(), "not quiesced", "", false, false)
	wait(t, task, err)
	for i, fails := range []bool{true, false} {
		task, err := vm.CreateSnapshot(context.Background(), "quiesced", "", false, true)
		if err != nil {
			t.Fatal(err)
		}
		if err = task.Wait(context.Background()); fault.Is(err, &types.ApplicationQuiesceFault{}) != fails {
			t.Errorf("quiesced snapshot %d: %v", i, err)
		}
	}
}

func TestStormsPass(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	raw, content := rawDisk(t, 1<<20)
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Raw: raw}}})
	s.Storm(vmwaretest.Weather{Prefix: "/sdk", Status: http.StatusServiceUnavailable, Times: 2})
	s.Storm(vmwaretest.Weather{Prefix: "/folder", Status: http.StatusServiceUnavailable, Times: 1})
	for i, works := range []bool{false, false, true} {
		if _, err := methods.GetCurrentTime(context.Background(), c); (err == nil) != works {
			t.Errorf("call %d: %v", i, err)
		}
	}
	r := withCookie(folderRequest(t, s, v.Disks[0].Path, ""), s, c)
	if response, _ := fetch(t, c, r); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("in the storm: %s", response.Status)
	}
	s.Storm(vmwaretest.Weather{Prefix: "/folder", Cut: 1000, Times: 1})
	response, err := (&http.Client{Transport: c.Client.Client.DefaultTransport()}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil || string(body) != string(content[:1000]) {
		t.Errorf("cut after 1000 bytes: %d bytes, %v", len(body), err)
	}
	if string(download(t, s, c, v.Disks[0].Path, "")) != string(content) {
		t.Error("other bytes after the storms")
	}
}

func TestAnAnswerIsLostAndWhatWasAskedForIsDone(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	v := s.AddVM(t, vmwaretest.VM{Name: "web01", Disks: []vmwaretest.Disk{{Size: 1 << 20}}})
	s.Storm(vmwaretest.Weather{Prefix: "/sdk", Method: "CreateSnapshot_Task", Lost: true, Times: 1})
	vm := object.NewVirtualMachine(c.Client, v.Ref)
	if _, err := vm.CreateSnapshot(context.Background(), "lost", "", false, false); err == nil || soap.IsSoapFault(err) {
		t.Errorf("the lost answer: %v", err)
	}
	for end := time.Now().Add(10 * time.Second); len(s.Leaks()) < 2 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if want := `the snapshot "lost" of web01`; !slices.Contains(s.Leaks(), want) {
		t.Errorf("the leaks are %q", s.Leaks())
	}
	if n := s.Calls()["CreateSnapshot_Task"]; n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestAnswersCanBeSlow(t *testing.T) {
	s, c := started(t, vmwaretest.Options{})
	s.Storm(vmwaretest.Weather{Prefix: "/sdk", Delay: time.Hour})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := methods.GetCurrentTime(ctx, c); err == nil {
		t.Error("an answer came before its time")
	}
	s.Clear()
	if _, err := methods.GetCurrentTime(context.Background(), c); err != nil {
		t.Error("after the storm: ", err)
	}
}

func TestIdleSessionsEndAndKilledOnesAreGone(t *testing.T) {
	s, c := started(t, vmwaretest.Options{SessionTimeout: 200 * time.Millisecond})
	for end := time.Now().Add(10 * time.Second); len(s.Sessions()) > 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := methods.GetCurrentTime(context.Background(), c); !fault.Is(err, &types.NotAuthenticated{}) {
		t.Errorf("after the session's end: %v", err)
	}
	s, c = started(t, vmwaretest.Options{})
	s.KillSessions(t)
	if _, err := methods.GetCurrentTime(context.Background(), c); !fault.Is(err, &types.NotAuthenticated{}) {
		t.Errorf("after the session was killed: %v", err)
	}
}
