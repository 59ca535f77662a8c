package boot

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Options is what the kernel's command line asks for.
type Options struct {
	RootHash     string        // roothash=: the topmost hash of the root; empty: it is not checked
	Root         string        // root=PARTUUID=…, where there is no hash
	Disk         string        // hyper2kvm.disk=: name or serial number of the disk to take, of several
	ToRAM        bool          // hyper2kvm.toram: read the root into memory
	FactoryReset bool          // hyper2kvm.factory-reset: begin with an empty state
	StateInRAM   bool          // hyper2kvm.state=ram: leave the state on the disk alone
	Wait         time.Duration // hyper2kvm.wait=: seconds to wait for a disk
}

// patience is how long disks are waited for unless told: USB ones take some seconds.
const patience = 30 * time.Second

// Parse reads a command line. What is not ours is somebody else's.
func Parse(line string) (o Options, err error) {
	o.Wait = patience
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "roothash":
			o.RootHash = strings.ToLower(value)
		case "root":
			o.Root = strings.ToLower(strings.TrimPrefix(value, "PARTUUID="))
		case "hyper2kvm.disk":
			o.Disk = value
		case "hyper2kvm.toram":
			o.ToRAM = value != "0"
		case "hyper2kvm.factory-reset":
			o.FactoryReset = value != "0"
		case "hyper2kvm.state":
			o.StateInRAM = value == "ram"
		case "hyper2kvm.wait":
			seconds, err := strconv.Atoi(value)
			if err != nil || seconds < 0 || seconds > 3600 {
				return o, sentence("the boot entry says %s, which is no number of seconds", "write hyper2kvm.wait=60, or leave it out", word)
			}
			o.Wait = time.Duration(seconds) * time.Second
		}
	}
	return o, nil
}

func commandLine() (Options, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return Options{}, err
	}
	return Parse(string(line))
}

// Problem is why the appliance does not start, and what to try.
type Problem struct{ What, Try string }

func (p *Problem) Error() string { return p.What + ": " + p.Try }

// sentence is a problem whose What is formatted.
func sentence(what, try string, args ...any) *Problem {
	return &Problem{fmt.Sprintf(what, args...), try}
}
