package firstboot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hyper2kvm/pipeline/proc"
)

// GuestInfo answers a variable of the virtual machine's, which is empty if nobody has
// set it.
type GuestInfo func(ctx context.Context, name string) (string, error)

const (
	ovfEnvironment = "guestinfo.ovfEnv"
	guestPrefix    = "guestinfo.hyper2kvm."
)

// toolsTime is how long VMware's tools may take to answer.
const toolsTime = 5 * time.Second

// VMware asks VMware's tools, on a machine of VMware's; nil on others.
//
// Source: systemd src/basic/virt.c, dmi_vendor_table.
func VMware(root string) GuestInfo {
	vendor, err := os.ReadFile(filepath.Join(root, "sys/class/dmi/id/sys_vendor"))
	if err != nil || !strings.HasPrefix(string(vendor), "VMware") {
		return nil
	}
	return askTools
}

func askTools(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, toolsTime, fmt.Errorf("no answer within %v", toolsTime))
	defer cancel()
	answer := &bounded{most: mostEnvironment + 1}
	_, err := proc.Command{Name: "vmtoolsd", Args: toolsArgs(name), Stdout: answer}.Run(ctx)
	if unset(err) {
		return "", nil
	}
	return strings.TrimSuffix(string(answer.data), "\n"), err
}

func toolsArgs(name string) []string { return []string{"--cmd", "info-get " + name} }

// unset tells whether the tools say that nobody has set a variable: they print what the
// host answers, which has these words, and end with 1 as with all that goes wrong.
//
// Source: open-vm-tools services/vmtoolsd/cmdLine.c, ToolsCoreRunCommand.
func unset(err error) bool {
	failed, ok := errors.AsType[*proc.Error](err)
	return ok && failed.Exit == 1 && strings.Contains(failed.Stderr, "No value found")
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	data []byte
	most int
}

func (b *bounded) Write(p []byte) (int, error) {
	b.data = append(b.data, p[:min(len(p), b.most-len(b.data))]...)
	return len(p), nil
}

// fromVMware is what VMware's variables say: the OVF environment, and those for each key.
func fromVMware(ctx context.Context, ask GuestInfo) []*source {
	if ask == nil {
		return nil
	}
	text, err := ask(ctx, ovfEnvironment)
	if err != nil {
		s := newSource(fromOVF)
		s.wrong("VMware's tools do not answer: %v", err)
		return []*source{s}
	}
	own := newSource(fromGuestInfo)
	for _, k := range keys {
		value, err := ask(ctx, guestPrefix+k.name)
		if err != nil {
			own.wrong("%s: VMware's tools do not answer: %v", k.name, err)
			break
		}
		own.say(k.name, value)
	}
	if text == "" {
		return []*source{own}
	}
	return []*source{readOVF([]byte(text)), own}
}
