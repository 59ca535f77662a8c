package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/transfer"
)

func TestSizesHaveThreeDigitsAndABinaryUnit(t *testing.T) {
	for n, want := range map[int64]string{
		0:                 "0 B",
		1023:              "1023 B",
		1024:              "1 KiB",
		1536:              "1.5 KiB",
		999 << 10:         "999 KiB",
		999<<10 + 1000:    "0.977 MiB",
		1000 << 10:        "0.977 MiB",
		32 << 20:          "32 MiB",
		1<<30 + 1<<28:     "1.25 GiB",
		62 << 40:          "62 TiB",
		1<<63 - 1:         "8 EiB",
		123456789:         "118 MiB",
		999*(1<<50) + 512: "999 PiB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestARateIsOfWhatIsReadNotOfHoles(t *testing.T) {
	p := transfer.Progress{Virtual: 50 << 30, Total: 100 << 30, Wire: 1 << 30, Allocated: 512 << 20}
	for _, c := range []struct {
		p    transfer.Progress
		from int64
		took time.Duration
		want string
	}{
		{p, 0, 0, " 50% of 100 GiB virtual, 1 GiB read, 512 MiB written"},
		{p, 0, 10 * time.Second, " 50% of 100 GiB virtual, 1 GiB read, 512 MiB written, 102 MiB/s, about 10s left"},
		{p, 40 << 30, 10 * time.Second, " 50% of 100 GiB virtual, 1 GiB read, 512 MiB written, 102 MiB/s, about 50s left"},
		{transfer.Progress{Virtual: 1 << 30, Total: 1 << 30, Wire: 512 << 20}, 0, 4 * time.Second, "100% of 1 GiB virtual, 512 MiB read, 0 B written, 128 MiB/s"},
		{transfer.Progress{Virtual: 1, Total: 1 << 30}, 0, 2 * time.Second, "  0% of 1 GiB virtual, 0 B read, 0 B written, 0 B/s"},
		{transfer.Progress{}, 0, 2 * time.Second, "  0% of 0 B virtual, 0 B read, 0 B written, 0 B/s"},
	} {
		if got := describe(c.p, c.from, c.took); got != c.want {
			t.Errorf("describe(%+v, %d, %v) = %q, want %q", c.p, c.from, c.took, got, c.want)
		}
	}
}

// shown is what a progress prints of a copy told of every tenth of a second.
func shown(terminal bool) string {
	var out bytes.Buffer
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	p := newProgress(&out)
	p.terminal, p.now = terminal, func() time.Time { return now }
	p.tell(pipeline.Event{Stage: "convert", State: pipeline.Running, Text: "copy"})
	const ticks = 120
	for i := range ticks + 1 {
		p.tell(pipeline.Event{Stage: "convert", State: pipeline.Running, Progress: &transfer.Progress{Virtual: int64(i), Total: ticks}})
		p.tell(pipeline.Event{Stage: "convert", State: pipeline.Running, Progress: &transfer.Progress{Virtual: int64(i), Total: ticks}})
		now = now.Add(100 * time.Millisecond)
	}
	p.tell(pipeline.Event{Stage: "convert", State: pipeline.Done, Took: 12 * time.Second})
	return out.String()
}

func TestALogGetsALineEveryFewSeconds(t *testing.T) {
	want := `CONVERT  copy
         1 disk    0% of 120 B virtual, 0 B read, 0 B written
         1 disk   42% of 120 B virtual, 0 B read, 0 B written, 0 B/s, about 7s left
         1 disk   83% of 120 B virtual, 0 B read, 0 B written, 0 B/s, about 2s left
         1 disk  100% of 120 B virtual, 0 B read, 0 B written, 0 B/s
         done in 12s
`
	if got := shown(false); got != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}

func TestATerminalsLineIsRedrawn(t *testing.T) {
	got := shown(true)
	if n := strings.Count(got, "\r\x1b[K"); n != 121 {
		t.Errorf("redrawn %d times, want 121", n)
	}
	lines := strings.Split(got, "\n")
	if len(lines) != 4 || !strings.HasSuffix(lines[1], "100% of 120 B virtual, 0 B read, 0 B written, 0 B/s") || lines[2] != "         done in 12s" {
		t.Errorf("lines that stay: %q", lines)
	}
}

func TestEveryStageSaysWhatBecameOfIt(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	for _, e := range []pipeline.Event{
		{Stage: "fetch", State: pipeline.Done, Text: "done before"},
		{Stage: "flatten", State: pipeline.Running, Text: "overlay"},
		{Stage: "flatten", State: pipeline.Done, Took: 1234 * time.Microsecond},
		{Stage: "inspect", State: pipeline.Running, Text: "read"},
		{Stage: "inspect", State: pipeline.Failed, Took: 1266 * time.Millisecond},
		{Stage: "test", State: pipeline.Skipped, Text: "not asked for"},
	} {
		p.tell(e)
	}
	want := `FETCH    done before
FLATTEN  overlay
         done in 1ms
INSPECT  read
         failed after 1.3s
TEST     skipped: not asked for
`
	if got := out.String(); got != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}

func TestDisksAreCountedTogether(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	p := newProgress(&out)
	p.now = func() time.Time { return now }
	p.tell(pipeline.Event{Progress: &transfer.Progress{Total: 10}})
	now = now.Add(time.Minute)
	p.tell(pipeline.Event{Disk: 1, Progress: &transfer.Progress{Virtual: 10, Total: 10, Wire: 600, Allocated: 7}})
	want := "         1 disk    0% of 10 B virtual, 0 B read, 0 B written\n" +
		"         2 disks   50% of 20 B virtual, 600 B read, 7 B written, 10 B/s\n"
	if got := out.String(); got != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}
