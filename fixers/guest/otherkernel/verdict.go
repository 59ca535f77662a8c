package otherkernel

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
)

// verdict is how the tests ended.
type verdict struct {
	Exit    int // status of the test binary
	Passed  int // tests and sub-tests
	Skipped int
}

// count adds what a line of the test binary says.
func (v *verdict) count(line string) {
	switch line = strings.TrimSpace(line); {
	case strings.HasPrefix(line, "--- PASS: "):
		v.Passed++
	case strings.HasPrefix(line, "--- SKIP: "):
		v.Skipped++
	}
}

// summary is what became of each test, without sub-tests.
func summary(serial string) string {
	var lines []string
	for line := range strings.Lines(serial) {
		if strings.HasPrefix(line, "--- ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

// notPassed are the tests that did not pass: one that was renamed does not run.
func notPassed(serial string, tests []string) []string {
	passed := summary(serial)
	return slices.DeleteFunc(slices.Clone(tests), func(test string) bool { return strings.Contains(passed, "--- PASS: "+test+" ") })
}

// mark begins the line of the verdict: tests may print anything, and the kernel its
// command line with the nonce in it.
func mark(nonce string) string {
	return fmt.Sprintf("hyper2kvm-otherkernel-%x", sha256.Sum256([]byte(nonce)))
}

// markOf is the mark for the nonce in a kernel's command line.
func markOf(cmdline string) (string, error) {
	line, err := os.ReadFile(cmdline)
	if err != nil {
		return "", err
	}
	for _, word := range strings.Fields(string(line)) {
		if nonce, ok := strings.CutPrefix(word, "nonce="); ok {
			return mark(nonce), nil
		}
	}
	return "", fmt.Errorf("%s has no nonce", cmdline)
}

// readVerdict finds the verdict in what a machine said on its serial port.
func readVerdict(serial, nonce string) (v verdict, told bool) {
	_, rest, found := strings.Cut(serial, mark(nonce)+" ")
	if !found {
		return v, false
	}
	n, err := fmt.Sscan(rest, &v.Exit, &v.Passed, &v.Skipped)
	return v, n == 3 && err == nil
}
