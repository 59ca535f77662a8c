package boot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// shown is how long people can read why a version that is on trial does not start.
const shown = 20 * time.Second

// counting is what systemd-boot says of a version whose tries it counts.
//
// Source: systemd, docs/BOOT_LOADER_INTERFACE.md.
const counting = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// onTrial tells whether this version was not found healthy yet: our menu for BIOS says so
// in the command line, systemd-boot in a variable of the firmware's.
func onTrial(commandLine, variables string) bool {
	line, err := os.ReadFile(commandLine)
	if err == nil && slices.Contains(strings.Fields(string(line)), "hyper2kvm.trial") {
		return true
	}
	if _, err := os.Stat(variables); err != nil {
		return false // BIOS
	}
	err = unix.Mount("efivarfs", variables, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	if err != nil && !errors.Is(err, unix.EBUSY) {
		say("whether this version is on trial cannot be read: %v", err)
	}
	_, err = os.Stat(filepath.Join(variables, counting))
	return err == nil
}
