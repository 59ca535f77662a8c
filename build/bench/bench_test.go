package main

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hyper2kvm/pipeline"
)

func TestCPUTimeIsDividedAmongPhases(t *testing.T) {
	readings := []reading{{1 * time.Second, 1 * time.Second}, {3 * time.Second, 5 * time.Second}, {4 * time.Second, 6 * time.Second}}
	got := phases([]mark{{"one", 0}, {"two", 2 * time.Second}}, 4*time.Second, readings)
	want := []Phase{{"one", 2 * time.Second, 3 * time.Second}, {"two", 2 * time.Second, 3 * time.Second}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("phases (-want +got):\n%s", d)
	}
}

func TestStagesThatRanAreMarks(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	stages := []pipeline.Record{
		{Name: "fetch", State: pipeline.Done, Began: began.Add(time.Second), Took: 2 * time.Second},
		{Name: "convert", State: pipeline.Done, Began: began.Add(4 * time.Second), Took: time.Second},
		{Name: "test", State: pipeline.Skipped},
	}
	want := []mark{{"start", 0}, {"fetch", time.Second}, {"convert", 4 * time.Second}, {"report and end", 5 * time.Second}}
	if d := cmp.Diff(want, stageMarks(stages, began), cmp.AllowUnexported(mark{})); d != "" {
		t.Errorf("marks (-want +got):\n%s", d)
	}
}

func TestVirtV2VsMessagesAreMarks(t *testing.T) {
	m := &messages{began: time.Now()}
	for _, text := range []string{"[   0.0] Setting up the source: -i vmx web02.vmx\n[   1.9] Opening", " the source\nvirt-v2v: warning: x\n", "█ 100% [****]\n"} {
		if _, err := m.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, f := range m.marks() {
		names = append(names, f.Name)
	}
	if d := cmp.Diff([]string{"start", "Setting up the source: -i vmx web02.vmx", "Opening the source"}, names); d != "" {
		t.Errorf("marks (-want +got):\n%s", d)
	}
}

func TestAProcessIsReadWhateverItIsCalled(t *testing.T) {
	stat := []byte("42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 0 0\n")
	p, ok := parseStat(stat)
	if want := (process{parent: 7, name: "a) b (c", cpu: 1100 * time.Millisecond}); !ok || p != want {
		t.Errorf("parseStat = %+v, %v, want %+v", p, ok, want)
	}
	for _, broken := range []string{"", "42 (x", "42 (x) S 7", "42 (x) S y 42 42 0 -1 4194560 100 0 0 0 11 22 33 44"} {
		if p, ok := parseStat([]byte(broken)); ok {
			t.Errorf("parseStat(%q) = %+v", broken, p)
		}
	}
}

func TestARatioThatIsLostIsAnError(t *testing.T) {
	slow := Cost{Wall: 100 * time.Second, CPU: 100 * time.Second}
	if err := (Cost{Wall: time.Second, CPU: time.Second}).against(io.Discard, "x", slow, 20); err != nil {
		t.Error(err)
	}
	if err := (Cost{Wall: time.Second, CPU: 10 * time.Second}).against(io.Discard, "x", slow, 20); err == nil {
		t.Error("ten times the CPU time passed for twenty")
	}
}

func TestVirtV2VsComplaintIsFoundAmongItsWords(t *testing.T) {
	words := "virt-v2v: warning: x\nvirt-v2v: error: libguestfs error: mount: no such file\n\nIf reporting bugs, run virt-v2v with debugging\n"
	if got, want := complaint(words), "libguestfs error: mount: no such file"; got != want {
		t.Errorf("complaint = %q, want %q", got, want)
	}
}

func TestTooMuchMemoryIsAnError(t *testing.T) {
	if err := (Cost{Ours: most}).modest("x"); err != nil {
		t.Error(err)
	}
	if err := (Cost{Ours: most + 1}).modest("x"); err == nil {
		t.Error("more memory than there may be passed")
	}
}

func TestAProcessHasItsOwnMemory(t *testing.T) {
	if borrows(os.Getpid(), os.Getppid()) {
		t.Error("this process has its parent's memory")
	}
	if !borrows(os.Getpid(), os.Getpid()) {
		t.Error("this process has not its own memory")
	}
}

func TestBenchmarksBecomeATable(t *testing.T) {
	got := goTable("goos: linux\nBenchmarkCopy/raw_to_raw-2   1\t 9 ns/op\t 1.2 cp-s\t 0.6 times\nPASS\nBenchmarkX-2 3\nok  \tx 1s\n")
	want := "| benchmark | figures |\n|---|---|\n| Copy/raw_to_raw-2 | 9 ns/op, 1.2 cp-s, 0.6 times |\n"
	if got != want {
		t.Errorf("goTable = %q, want %q", got, want)
	}
}
