package otherkernel

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// serve is what init does: it makes the machine one that programs can run in, and
// runs the tests.
func serve() error {
	for _, m := range []struct{ fstype, at, options string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", ""}, {"tmpfs", "/tmp", "size=90%"}, {"tmpfs", "/run", ""},
	} {
		if err := unix.Mount(m.fstype, m.at, m.fstype, 0, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	mark, err := markOf("/proc/cmdline")
	if err != nil {
		return err
	}
	v, err := runTests()
	fmt.Printf("\n%s %d %d %d\n", mark, v.Exit, v.Passed, v.Skipped)
	return err
}

// moduleCompressed asks the kernel to unpack the module. Source: init_module(2),
// MODULE_INIT_COMPRESSED_FILE.
const moduleCompressed = 4

func loadModules() error {
	list, err := os.ReadFile(modulesName)
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(list)) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		flags := 0
		if !strings.HasSuffix(name, ".ko") {
			flags = moduleCompressed
		}
		err = unix.FinitModule(int(f.Fd()), "", flags)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// runTests runs the test binary and counts what it says.
func runTests() (v verdict, err error) {
	args, err := os.ReadFile(testsName)
	if err != nil {
		return v, err
	}
	env, err := os.ReadFile(envName)
	if err != nil {
		return v, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return v, err
	}
	p, err := os.StartProcess(initName, strings.Split(string(args), "\n"), &os.ProcAttr{
		Env:   strings.Split(string(env), "\n"),
		Files: []*os.File{nil, in, in},
	})
	if err := errors.Join(err, in.Close()); err != nil {
		return v, err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Println(lines.Text())
		v.count(lines.Text())
	}
	state, err := p.Wait()
	if err == nil {
		v.Exit = state.ExitCode()
	}
	return v, err
}

// powerOff ends the machine, and says why if it did not do its work.
func powerOff(err error) {
	if err != nil {
		fmt.Println("init:", err)
	}
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("power off:", err) // not reached when the machine obeys
}
