package otherkernel

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

func TestOnlyTheMachinesOwnVerdictCounts(t *testing.T) {
	for name, c := range map[string]struct {
		serial string
		want   verdict
		told   bool
	}{
		"none":             {"--- PASS: TestX\n", verdict{}, false},
		"of another":       {mark("other") + " 0 1 0\n", verdict{}, false},
		"its own":          {"Linux nonce=n\r\n" + mark("n") + " 1 20 3\r\n[ 9.1] Power down\n", verdict{1, 20, 3}, true},
		"cut short":        {mark("n") + " 1 20", verdict{Exit: 1, Passed: 20}, false},
		"behind a command": {"nonce=n " + mark("n") + " x", verdict{}, false},
	} {
		if got, told := readVerdict(c.serial, "n"); got != c.want || told != c.told {
			t.Errorf("%s: readVerdict = %+v, %v, want %+v, %v", name, got, told, c.want, c.told)
		}
	}
}

func TestTestsAreCountedByWhatTheySay(t *testing.T) {
	var v verdict
	for line := range strings.Lines("=== RUN   TestA\n--- PASS: TestA (0.00s)\n    --- PASS: TestA/b (0.00s)\n    --- SKIP: TestA/c (0.00s)\n--- FAIL: TestD\n") {
		v.count(line)
	}
	if v != (verdict{Passed: 2, Skipped: 1}) {
		t.Errorf("count = %+v", v)
	}
}

func TestATestThatDidNotRunHasNotPassed(t *testing.T) {
	serial := "--- PASS: TestA (0.00s)\r\n    --- PASS: TestA/TestB (0.00s)\r\n--- FAIL: TestC (0.00s)\r\n--- PASS: TestDOther (0.00s)\r\n"
	got := notPassed(serial, []string{"TestA", "TestB", "TestC", "TestD"})
	if want := []string{"TestB", "TestC", "TestD"}; !slices.Equal(got, want) {
		t.Errorf("notPassed = %q, want %q", got, want)
	}
}

func TestASummaryHasNoSubTests(t *testing.T) {
	got := summary("=== RUN   TestA\r\n    --- PASS: TestA/b (0.00s)\r\n--- PASS: TestA (0.10s)\r\nx\n--- FAIL: TestD (0.00s)\n")
	if want := "--- PASS: TestA (0.10s)\n--- FAIL: TestD (0.00s)"; got != want {
		t.Errorf("summary = %q, want %q", got, want)
	}
}

func TestTheNonceIsOnTheCommandLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cmdline")
	for text, want := range map[string]string{"quiet nonce=abc x\n": mark("abc"), "quiet\n": ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := markOf(file); got != want || (err == nil) != (want != "") {
			t.Errorf("markOf(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestAKernelIsNamedByItsFile(t *testing.T) {
	for name, want := range map[string]string{"/boot/vmlinuz-6.1.0-9-amd64": "6.1.0-9-amd64", "/lib/modules/6.12.1/vmlinuz": "6.12.1"} {
		if got := release(name); got != want {
			t.Errorf("release(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestAProgramComesWithItsLibraries(t *testing.T) {
	got, err := needs("/bin/sh")
	if err != nil || !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, "libc.so") }) {
		t.Errorf("needs = %q, %v, want libc among them", got, err)
	}
	if _, err := needs("/etc/passwd"); err == nil {
		t.Error("a text needs nothing, and no error")
	}
}

// TestInside is what the tests of this package run in the machine.
func TestInside(t *testing.T) {
	if os.Getenv("PATH") != "/usr/sbin:/usr/bin" {
		t.Skip("runs in the machine of the tests below")
	}
	t.Run("Passes", func(t *testing.T) {
		if data, err := os.ReadFile("/data/file"); string(data) != "given" || os.Getenv("GIVEN") != "too" {
			t.Errorf("/data/file is %q, %v; GIVEN is %q", data, err, os.Getenv("GIVEN"))
		}
	})
	t.Run("Skips", func(t *testing.T) { t.Skip("to be counted") })
	t.Run("Fails", func(t *testing.T) { t.Error("to be told") })
	t.Run("Left", func(*testing.T) {})
}

func TestWhatFailsOrIsSkippedInTheMachineIsTold(t *testing.T) {
	if os.Getenv("NEED_VMS") == "" {
		t.Skip("starts a virtual machine: set NEED_VMS=1")
	}
	m := Machine{Data: map[string][]byte{"/data/file": []byte("given")}, Env: []string{"GIVEN=too"}, Programs: []string{"blkid"}, Modules: []string{"loop"}, Tests: []string{"TestInside"}, Skip: "^TestInside$/^Left$", Limit: 3 * time.Minute}
	began := time.Now()
	v, serial, err := m.boot(t.Context(), t.TempDir())
	if want := (verdict{Exit: 1, Passed: 1, Skipped: 1}); v != want || err != nil {
		t.Errorf("boot = %+v, %v, want %+v\n%s", v, err, want, serial)
	}
	t.Logf("it took %v", time.Since(began))
}

func TestWhatIsMissingIsSaidBeforeAMachineStarts(t *testing.T) {
	for name, m := range map[string]Machine{
		"no such program": {Programs: []string{"none"}},
		"no such file":    {Files: []string{"/none"}},
	} {
		if err := m.writeInitrd(t.Context(), filepath.Join(t.TempDir(), "initrd"), "/boot/vmlinuz-0"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
