// Command init is the whole userland of the accelerator probe's guest: it
// proves that a kernel and a program ran, and powers the machine off.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	fmt.Println(answer())
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("power off:", err) // not reached when the machine obeys
}

// answer is the digest of the nonce on the kernel's command line. The kernel
// prints its command line itself, so the nonce alone would prove no userland.
func answer() string {
	if err := os.MkdirAll("/proc", 0o755); err != nil {
		return err.Error()
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err.Error()
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err.Error()
	}
	for _, word := range strings.Fields(string(line)) {
		if nonce, ok := strings.CutPrefix(word, "nonce="); ok {
			return fmt.Sprintf("hyper2kvm-accel-%x", sha256.Sum256([]byte(nonce)))
		}
	}
	return "no nonce on the command line"
}
