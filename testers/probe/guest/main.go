// Command guest is the probe: it runs inside a guest under proof, started by
// systemd from a throwaway overlay, and tells the host over a virtio-serial
// port what it sees. It must run in any guest, so it is static, depends on the
// standard library alone, and takes what it knows from the kernel's files.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hyper2kvm/testers/probe/wire"
)

// again is the time between two looks for the port, and between two hellos to
// a host that says nothing.
const again = time.Second

func main() {
	err := run(os.Args[1:]) // which ends only when it cannot go on
	fmt.Fprintln(os.Stderr, "hyper2kvm-probe:", err)
	os.Exit(1)
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: probe CONFIG")
	}
	b, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var config wire.Config
	if err := json.Unmarshal(b, &config); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if len(config.Key) != wire.KeySize {
		return fmt.Errorf("%s: the key has %d bytes", args[0], len(config.Key))
	}
	for {
		port := awaitPort()
		err := converse(port, config.Key, func() wire.Report { return system{}.report() }, obey)
		fmt.Fprintln(os.Stderr, "hyper2kvm-probe: port:", err)
		if err := port.Close(); err != nil {
			return err
		}
		<-time.After(again)
	}
}

// awaitPort opens the port as soon as there is one. Its driver may have to be
// asked for: in an emergency udev does not run.
func awaitPort() *os.File {
	tick := time.NewTicker(again)
	defer tick.Stop()
	for looked := 0; ; looked++ {
		name, err := findPort("/sys/class/virtio-ports")
		if err == nil {
			port, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
			if err == nil {
				return port
			}
			fmt.Fprintln(os.Stderr, "hyper2kvm-probe:", err)
		}
		if looked == 10 {
			if out, err := output("modprobe", "virtio_console"); err != nil {
				fmt.Fprintln(os.Stderr, "hyper2kvm-probe:", err, out)
			}
		}
		<-tick.C
	}
}

// findPort is the device name of our port: /dev may lack udev's link to it.
func findPort(class string) (string, error) {
	names, err := filepath.Glob(class + "/*/name")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == wire.Port {
			return filepath.Base(filepath.Dir(name)), nil
		}
	}
	return "", errors.New("no port " + wire.Port)
}

// converse says hello and does what the host asks until the port ends.
func converse(port io.ReadWriter, key []byte, report func() wire.Report, obey func(string) error) error {
	// The empty line ends what a reset may have cut.
	hello := func() error { return say(port, "\n", wire.ToHost{Hello: true}) }
	if err := hello(); err != nil {
		return err
	}
	lines := make(chan wire.ToGuest)
	ended := make(chan error, 1)
	go func() { ended <- listen(port, lines) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * again):
			if err := hello(); err != nil {
				return err
			}
		case m := <-lines:
			if err := answer(port, key, m, report, obey); err != nil {
				return err
			}
		}
	}
}

func answer(port io.Writer, key []byte, m wire.ToGuest, report func() wire.Report, obey func(string) error) error {
	if m.Do != "" {
		return obey(m.Do)
	}
	signed, err := wire.Sign(key, m.Challenge, report())
	if err != nil {
		return err
	}
	return say(port, "", signed)
}

func say(port io.Writer, before string, m wire.ToHost) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = io.WriteString(port, before+string(line)+"\n")
	return err
}

func listen(port io.Reader, lines chan<- wire.ToGuest) error {
	in := bufio.NewScanner(port)
	in.Buffer(nil, wire.MaxLine)
	for in.Scan() {
		var m wire.ToGuest
		if err := json.Unmarshal(in.Bytes(), &m); err != nil {
			return err
		}
		lines <- m
	}
	if err := in.Err(); err != nil {
		return err
	}
	return io.EOF
}

// obey restarts or ends the guest the way an administrator would.
func obey(command string) error {
	if command != wire.Reboot && command != wire.PowerOff {
		return fmt.Errorf("unknown command %q", command)
	}
	out, err := output("systemctl", command)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
