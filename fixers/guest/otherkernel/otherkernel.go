// Package otherkernel runs the tests of a package once more in a small virtual
// machine, whose kernel has what the kernel of this machine may lack: it is the
// Debian kernel that the accelerator probe boots, with modules of its package. Its
// initramfs is made of the running test binary, which is its init too, the programs
// that the tests run, and the libraries that those need.
package otherkernel

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/proc"
)

// Machine is what runs the tests.
type Machine struct {
	Programs []string          // of the table of programs
	Files    []string          // that those read
	Data     map[string][]byte // other files, by name
	Env      []string          // of the tests, beside what every machine has
	Modules  []string          // by name; what they depend on comes along
	Tests    []string          // by name
	Skip     string            // a pattern as for go test -skip
	Limit    time.Duration     // for all of it
}

// memory is the machine's, as QEMU has it: the disks that tests make are sparse
// files in it.
const memory = "2G"

// Run boots the machine and fails the test unless every test in it passes. A test
// that is skipped there is a failure: nothing is missing.
func (m Machine) Run(t *testing.T) {
	t.Helper()
	began := time.Now()
	v, serial, err := m.boot(t.Context(), t.TempDir())
	t.Logf("the machine took %v: %+v\n%s", time.Since(began), v, summary(serial))
	missing := notPassed(serial, m.Tests)
	if err != nil || v.Exit != 0 || v.Skipped > 0 || len(missing) > 0 {
		t.Errorf("the tests under another kernel: %+v, not passed %q, %v\n%s", v, missing, err, serial)
	}
}

var errNoVerdict = errors.New("the machine ended without a verdict")

// boot runs the machine to its end and returns what it said.
func (m Machine) boot(ctx context.Context, dir string) (v verdict, serial string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.Limit, fmt.Errorf("the tests did not end within %v", m.Limit))
	defer cancel()
	choice, err := accel.Probe(ctx)
	if err != nil {
		return v, "", err
	}
	kernel, err := accel.Kernel()
	if err != nil {
		return v, "", err
	}
	initrd := filepath.Join(dir, "initrd")
	if err := m.writeInitrd(ctx, initrd, kernel); err != nil {
		return v, "", err
	}
	nonce := rand.Text()
	var said bytes.Buffer
	_, err = proc.Command{Name: "qemu-system-x86_64", Args: qemuArgs(choice, kernel, initrd, nonce), Stdout: &said}.Run(ctx)
	v, told := readVerdict(said.String(), nonce)
	if !told {
		err = errors.Join(err, errNoVerdict)
	}
	return v, said.String(), err
}

// qemuArgs are those of a machine with a serial port and nothing else.
// no_timer_check: on a busy host an emulated timer fails the kernel's test.
func qemuArgs(choice accel.Choice, kernel, initrd, nonce string) []string {
	return append(choice.QEMU(),
		"-machine", "q35", "-m", memory, "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-serial", "stdio", "-sandbox", "on",
		"-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyS0 loglevel=3 no_timer_check panic=-1 nonce="+nonce)
}

// release is a kernel's version, by its file's name.
func release(kernel string) string {
	if name, ok := strings.CutPrefix(filepath.Base(kernel), "vmlinuz-"); ok {
		return name
	}
	return filepath.Base(filepath.Dir(kernel))
}

// Main is what a package's TestMain calls: in the machine it is init, anywhere
// else it runs the tests.
func Main(m *testing.M) {
	if os.Getpid() != 1 || os.Args[0] != initName {
		os.Exit(m.Run())
	}
	powerOff(serve())
}
