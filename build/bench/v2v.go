package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/guests"
)

// v2vRun is a run of virt-v2v that was kept.
type v2vRun struct {
	Version string
	When    time.Time
	Guest   string // digest of the VMDK
	Machine string
	Cost    Cost
	Sample  string // what it says of the guest with by-path names
}

// keepV2V runs virt-v2v on the twin, its disk in a form, and on the sample, and keeps
// what came of it.
func (b bench) keepV2V(ctx context.Context, form string) error {
	g, err := b.form(ctx, form)
	if err != nil {
		return err
	}
	version, err := proc.Run(ctx, "virt-v2v", "--version")
	if err != nil {
		return err
	}
	r := v2vRun{Version: strings.TrimSpace(string(version)), When: time.Now().UTC(), Guest: b.twin.SHA256, Machine: thisMachine(b.accel)}
	fmt.Fprintf(b.out, "%s of %s, disk as %s; under emulation this takes minutes to an hour\n", r.Version, b.twin.Name, form)
	if r.Cost, err = b.v2v(ctx, g); err != nil {
		return err
	}
	_, err = b.v2v(ctx, b.sample)
	switch failure, ok := errors.AsType[*proc.Error](err); {
	case ok:
		r.Sample = complaint(failure.Stderr)
	case err != nil:
		return err
	default:
		r.Sample = "converted"
	}
	file, err := b.keptFile(form)
	if err != nil {
		return err
	}
	r.Cost.print(b.out, r.Version)
	fmt.Fprintf(b.out, "of the guest with by-path names: %s\nkept in %s\n", r.Sample, file)
	return save(file, r)
}

// v2v runs virt-v2v on one guest. It is told to emulate where KVM does not work:
// it would hang on a /dev/kvm that opens and runs no guest.
func (b bench) v2v(ctx context.Context, g guests.Guest) (Cost, error) {
	to, err := b.folder("v2v-" + g.Name)
	if err != nil {
		return Cost{}, err
	}
	env := []string{"LIBGUESTFS_BACKEND=direct"}
	if b.accel.Name == accel.TCG {
		env = append(env, "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	}
	said := &messages{began: time.Now()}
	cost, readings, _, err := measure(ctx, proc.Command{Name: "virt-v2v", Env: env, Stdout: said,
		Args: []string{"-i", "vmx", g.VMX, "-o", "local", "-os", to, "-of", "qcow2"}})
	cost.Phases = phases(said.marks(), cost.Wall, readings)
	return cost, errors.Join(err, os.RemoveAll(to))
}

// messages reads virt-v2v's progress: "[  62.3] Converting the guest …".
type messages struct {
	mu    sync.Mutex
	began time.Time
	found []mark
	rest  []byte
}

var message = regexp.MustCompile(`^\[\s*\d+\.\d+\] (.+)$`)

// Write takes each line at the moment at which it comes.
func (m *messages) Write(text []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rest = append(m.rest, text...)
	for {
		line, rest, whole := bytes.Cut(m.rest, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		m.rest = rest
		if at := message.FindSubmatch(bytes.TrimSpace(line)); at != nil {
			m.found = append(m.found, mark{string(at[1]), time.Since(m.began)})
		}
	}
}

func (m *messages) marks() []mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]mark{{"start", 0}}, m.found...)
}

// keptV2V is the run that was kept for this guest on this machine, if there is one.
func (b bench) keptV2V(form string) (r v2vRun, known bool, err error) {
	file, err := b.keptFile(form)
	if err != nil {
		return r, false, err
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	return r, true, json.Unmarshal(text, &r)
}

// keptFile is where a run is kept: figures of another guest, machine or
// accelerator are not comparable, and have another name.
func (b bench) keptFile(form string) (string, error) {
	cache, err := os.UserCacheDir()
	of := b.twin.SHA256 + thisMachine(b.accel)
	if form != exported {
		of += form
	}
	sum := sha256.Sum256([]byte(of))
	return filepath.Join(cache, "hyper2kvm", "bench", fmt.Sprintf("virt-v2v-%x.json", sum[:6])), err
}

// thisMachine names what a figure depends on: the CPU, and the accelerator.
func thisMachine(c accel.Choice) string { return cpuModel() + ", " + c.Name }

func cpuModel() string {
	model := "unknown CPU"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		n := strings.Count(string(info), "\nprocessor") + 1
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = fmt.Sprintf("%d × %s", n, strings.TrimSpace(value))
				break
			}
		}
	}
	return model
}

// complaint is the line of virt-v2v's last words that tells why it failed.
func complaint(words string) string {
	for line := range strings.Lines(words) {
		if text, ok := strings.CutPrefix(line, "virt-v2v: error: "); ok {
			return strings.TrimSpace(text)
		}
	}
	return strings.TrimSpace(words)
}
