package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// consoles are where people may be looking: the screen, and the serial port.
var consoles = []string{"/dev/tty0", "/dev/ttyS0"}

// say tells of something on all consoles.
func say(format string, args ...any) { tell("hyper2kvm: " + fmt.Sprintf(format, args...)) }

func tell(text string) {
	for _, name := range consoles {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			continue // this machine has none
		}
		fmt.Fprint(f, strings.ReplaceAll(text, "\n", "\r\n")+"\r\n")
		f.Close()
	}
}

// Fail tells why the appliance does not start, and stays; or if this version is on trial,
// starts the machine again, so that another version has its turn in the end.
func Fail(err error) {
	var p *Problem
	if !errors.As(err, &p) {
		p = &Problem{err.Error(), "start the machine again; if it stays so, write the image to the disk anew"}
	}
	tell("\n\nThe appliance does not start: " + p.What + ".\nTry this: " + p.Try + ".\nCtrl+Alt+Del starts the machine again.\n")
	if onTrial("/proc/cmdline", "/sys/firmware/efi/efivars") {
		say("this version is on trial: the machine starts again in %v", shown)
		time.Sleep(shown)
		unix.Sync()
		say("%v", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)) // it comes back only if it could not
	}
	for {
		time.Sleep(time.Hour)
	}
}
