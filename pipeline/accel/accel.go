// Package accel finds out by trying what this host can run virtual machines
// with. A /dev/kvm that opens proves nothing: on some hosts (nested
// virtualization cut off half way) it opens, answers its ioctls, and every
// guest hangs. Whoever starts a virtual machine asks Probe first.
package accel

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"hyper2kvm/pipeline/proc"
)

// Accelerators by QEMU's names.
const (
	KVM = "kvm"
	TCG = "tcg"
)

// Choice is what virtual machines are to be run with, and why.
type Choice struct {
	Name   string        `json:"name"` // KVM or TCG
	Reason string        `json:"reason"`
	Took   time.Duration `json:"took"`
}

// QEMU is the choice as options of QEMU's, for a guest that every x86-64 can run.
func (c Choice) QEMU() []string {
	if c.Name == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", Emulator, "-cpu", Emulated(false)}
}

// Emulated is the emulated CPU, as -cpu takes it, of a guest that may need all of one, or
// of one that every x86-64 can run.
func Emulated(whole bool) string {
	cpu := "max"
	for _, feature := range Lacks(whole) {
		cpu += ",-" + feature
	}
	return cpu
}

// Lacks are the features that an emulated CPU is better without.
func Lacks(whole bool) []string {
	if whole {
		return []string{deep}
	}
	return []string{deep, Flawed}
}

// deep is a page table of five levels, which addresses more than 64 TiB of memory. Older
// kernels that know of it, such as RHEL 8's before 2023, now and then reset on an emulated CPU
// that has it, before they say a word.
//
// Source: libguestfs, lib/launch-direct.c, commits 59d7e6e and 7398fdc.
const deep = "la57"

// Flawed is an instruction, CMPXCHG16B, that QEMU's emulator has wrong before version 8: it
// leaves what happens to be there in the flags, and a guest whose kernel is interrupted
// just then returns with those and crashes, every now and then. A guest that does not
// need it is better off without it.
//
// Source: QEMU 7.2, target/i386/tcg/translate.c, case 0x1c7, which does not store cc_op for
// helper_cmpxchg16b.
const Flawed = "cx16"

// Emulator is QEMU's, as -accel takes it, with less room for what it has translated than
// the GiB that QEMU gives it. What a guest writes to where it had code is slow as long as
// the translation is there: each piece that is dropped empties the caches of all CPUs by
// which translations are found. A guest that is reset writes everywhere.
//
// Source: QEMU, accel/tcg/tb-maint.c, tb_jmp_cache_inval_tb; accel/tcg/region.c.
const Emulator = "tcg,thread=multi,tb-size=64" // MiB

// deadline bounds the probe's guest: with working KVM it needs under 2 s.
const deadline = 15 * time.Second

//go:embed bin
var binaries embed.FS

// ErrNoProbe is a host or a build on which the probe cannot be made.
var ErrNoProbe = errors.New("the accelerator cannot be probed")

var once = struct {
	sync.Mutex
	choice *Choice
}{}

// Probe tries KVM with a real kernel, once in the life of the process; when
// ctx ends first it says so and the next call tries again.
func Probe(ctx context.Context) (Choice, error) {
	once.Lock()
	defer once.Unlock()
	if once.choice != nil {
		return *once.choice, nil
	}
	choice, err := remembered(ctx)
	if err == nil {
		once.choice = &choice
	}
	return choice, err
}

// Try is Probe without memory, for those who changed the host's settings.
func Try(ctx context.Context) (Choice, error) {
	start := time.Now()
	choice, err := try(ctx)
	choice.Took = time.Since(start)
	return choice, err
}

func try(ctx context.Context) (Choice, error) {
	if _, err := proc.Look("qemu-system-x86_64"); err != nil {
		return Choice{}, err
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Choice{Name: TCG, Reason: "this host has no /dev/kvm: hardware virtualization is off or not passed on (in vSphere: Expose hardware assisted virtualization to the guest OS)"}, nil
	case err != nil:
		return Choice{Name: TCG, Reason: fmt.Sprintf("KVM cannot be opened: %v", err)}, nil
	}
	if err := f.Close(); err != nil {
		return Choice{}, err
	}
	return tryGuest(ctx, KVM, deadline)
}

// tryGuest boots the probe's guest with an accelerator. A guest that does not
// answer is a Choice for TCG; an error is a probe that could not be made.
func tryGuest(ctx context.Context, accelerator string, limit time.Duration) (Choice, error) {
	kernel, err := Kernel()
	if err != nil {
		return Choice{}, err
	}
	dir, err := proc.PrivateDir()
	if err != nil {
		return Choice{}, err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initrd")
	if err := writeInitrd(initrd); err != nil {
		return Choice{}, err
	}
	nonce := rand.Text()
	want := fmt.Sprintf("hyper2kvm-accel-%x", sha256.Sum256([]byte(nonce)))
	bounded, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	var said bytes.Buffer
	_, err = proc.Command{Name: "qemu-system-x86_64", Args: guestArgs(accelerator, kernel, initrd, nonce), Stdout: &said}.Run(bounded)
	if ctx.Err() != nil {
		return Choice{}, context.Cause(ctx)
	}
	return judge(accelerator, bytes.Contains(said.Bytes(), []byte(want)), err), nil
}

// judge turns how the probe's guest ended into a choice.
func judge(accelerator string, answered bool, err error) Choice {
	switch {
	case answered && err == nil:
		return Choice{Name: accelerator, Reason: accelerator + " booted a kernel that answered and powered off"}
	case answered:
		return Choice{Name: TCG, Reason: fmt.Sprintf("KVM present but does not run guests to their end: %v", err)}
	case err != nil:
		return Choice{Name: TCG, Reason: fmt.Sprintf("KVM present but does not run guests: %v", err)}
	default:
		return Choice{Name: TCG, Reason: "KVM present but does not run guests: the probe's guest ended without its answer"}
	}
}

// guestArgs is a machine with a serial port and nothing else. -no-reboot ends
// QEMU when the kernel panics, and panic=-1 makes it do so at once.
func guestArgs(accelerator, kernel, initrd, nonce string) []string {
	return append(Choice{Name: accelerator}.QEMU(),
		"-machine", "q35", "-m", "256", "-nodefaults", "-no-user-config",
		"-display", "none", "-no-reboot", "-serial", "stdio", "-sandbox", "on",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 nonce="+nonce)
}

// Kernel is the last by name of this host's kernels that can be read: the probe's
// guest runs it, and tests may.
func Kernel() (string, error) {
	var found []string
	for _, pattern := range []string{"/boot/vmlinuz-*", "/lib/modules/*/vmlinuz", "/boot/vmlinuz"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		slices.Sort(names)
		slices.Reverse(names)
		found = append(found, names...)
	}
	for _, name := range found {
		f, err := os.Open(name)
		if err == nil {
			return name, f.Close()
		}
	}
	return "", fmt.Errorf("%w: no readable kernel in /boot: install the package linux-image-cloud-amd64", ErrNoProbe)
}

func writeInitrd(path string) (err error) {
	program, err := binaries.ReadFile("bin/init-amd64")
	if err != nil {
		return fmt.Errorf("%w: this build has no init for the probe's guest: build it with make", ErrNoProbe)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := cpio.Newc.Writer(f)
	console := cpio.CharDev("dev/console", 0o600, 5, 1) // the kernel gives init no other output
	for _, r := range []cpio.Record{cpio.Directory("dev", 0o755), console, cpio.StaticFile("init", string(program), 0o755)} {
		if err := w.WriteRecord(r); err != nil {
			return err
		}
	}
	return cpio.WriteTrailer(w)
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
