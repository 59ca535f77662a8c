// Package appliance boots the appliance's image in QEMU, for tests of what users see of
// it: its screen, its serial port, its API.
//
// Machine: one run of QEMU. Home: the folder that keeps its disk and firmware settings
// from one run to the next.
package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hyper2kvm/pipeline/accel"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/disk/qmp"
	"hyper2kvm/pipeline/proc"
	"hyper2kvm/testers/screen"
)

// Buses that the appliance's disk may be on.
var Buses = map[string][]string{
	"virtio":   {"virtio-blk-pci,drive=root,bootindex=1"},
	"virtscsi": {"virtio-scsi-pci", "scsi-hd,drive=root,bootindex=1"},
	"sata":     {"ide-hd,drive=root,bus=ide.0,bootindex=1"},
	"pvscsi":   {"pvscsi", "scsi-hd,drive=root,bootindex=1"},
	"lsi":      {"lsi53c895a", "scsi-hd,drive=root,bootindex=1"},
	"lsisas":   {"mptsas1068", "scsi-hd,drive=root,bootindex=1"},
	"nvme":     {"nvme,drive=root,serial=appliance,bootindex=1"},
	"usb":      {"qemu-xhci", "usb-storage,drive=root,id=stick,bootindex=1"},
}

// Spec is a machine to be started.
type Spec struct {
	Home    string   // a folder; empty at first
	Image   string   // raw, or what its name's ending says; it is not written
	Bus     string   // one of Buses; virtio unless told
	Address string   // IPv4, where its API is; what DHCP gives it unless told
	Port    int      // that is reached from here; 443 unless told
	Ports   []int    // further ones
	NIC     string   // QEMU's name of the network card, which may be on a bus of the options; virtio-net-pci unless told
	BIOS    bool     // instead of UEFI
	Secure  bool     // UEFI with Secure Boot, at first in setup mode: it takes the image's key, and ends
	Memory  int      // MiB; 3072 unless told
	Size    int64    // of the disk, in bytes; 8 GiB unless told
	Kernel  string   // words for the kernel's command line; UEFI alone
	SMBIOS  []string // further values of type 11
	Options []string // further options of QEMU's
}

// Machine is one that runs.
type Machine struct {
	screen.QEMU
	server *proc.Server
	spec   Spec
	api    int         // the local port that leads to the machine's
	ports  map[int]int // those that lead to further ones
}

// Start starts the machine, with what its home has kept.
func Start(ctx context.Context, s Spec) (*Machine, error) {
	if err := s.furnish(ctx); err != nil {
		return nil, err
	}
	choice, err := accel.Probe(ctx)
	if err != nil {
		return nil, err
	}
	m := &Machine{spec: s, ports: map[int]int{}}
	if m.api, err = freePort(); err != nil {
		return nil, err
	}
	for _, port := range s.Ports {
		if m.ports[port], err = freePort(); err != nil {
			return nil, err
		}
	}
	socket := filepath.Join(s.Home, "qmp")
	m.server, err = proc.Start(ctx, proc.Service{Command: proc.Command{Name: "qemu-system-x86_64", Args: append(processor(choice), m.arguments(socket)...)}, Socket: socket})
	if err != nil {
		return nil, err
	}
	client, err := qmp.Dial(ctx, socket)
	if err != nil {
		return nil, errors.Join(err, m.server.Stop())
	}
	m.QEMU = screen.QEMU{Client: client, Dir: s.Home}
	return m, nil
}

// processor is one without hardware virtualization, as vSphere gives a VM unless it is
// told otherwise.
func processor(c accel.Choice) []string {
	if c.Name == accel.KVM {
		return []string{"-accel", "kvm", "-cpu", "host,-svm,-vmx"}
	}
	return []string{"-accel", accel.Emulator, "-cpu", "Nehalem,-" + accel.Flawed}
}

// furnish makes what the home lacks: an overlay over the image, and the firmware's
// settings. A serial log of the run before goes.
func (s *Spec) furnish(ctx context.Context) error {
	s.Bus, s.NIC, s.Memory, s.Size, s.Port = first(s.Bus, "virtio"), first(s.NIC, "virtio-net-pci"), first(s.Memory, 3072), first(s.Size, 8<<30), first(s.Port, 443)
	if err := os.RemoveAll(s.serial()); err != nil {
		return err
	}
	if _, err := os.Stat(s.vars()); err != nil {
		vars, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.vars(), vars, 0o600); err != nil {
			return err
		}
	}
	if _, err := os.Stat(s.disk()); err == nil {
		return nil
	}
	return Overlay(ctx, s.Image, s.disk(), s.Size)
}

// Overlay makes a disk of a size that begins as the image, and is at least as large.
func Overlay(ctx context.Context, image, path string, size int64) error {
	image, err := filepath.Abs(image)
	if err != nil {
		return err
	}
	format := first(strings.TrimPrefix(filepath.Ext(image), "."), disk.Raw)
	out, err := proc.Run(ctx, "qemu-img", "info", "--output=json", "-f", format, "--", image)
	if err != nil {
		return err
	}
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return err
	}
	_, err = proc.Run(ctx, "qemu-img", "create", "-q", "-f", disk.QCOW2, "-F", format, "-b", image, "--", path, fmt.Sprint(max(size, info.Size)))
	return err
}

func first[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (s *Spec) disk() string   { return filepath.Join(s.Home, "root.qcow2") }
func (s *Spec) vars() string   { return filepath.Join(s.Home, "vars.fd") }
func (s *Spec) serial() string { return filepath.Join(s.Home, "serial.log") }

// firmware is a build of QEMU's UEFI.
type firmware struct {
	machine, code string
	options       []string
}

var (
	usual = firmware{"q35", "/usr/share/OVMF/OVMF_CODE_4M.fd", nil}
	// Its settings are changed in system management mode alone.
	secure = firmware{"q35,smm=on", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", []string{"-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"}}
)

func (m *Machine) arguments(socket string) []string {
	s, firmware := m.spec, usual
	if s.Secure {
		firmware = secure
	}
	args := []string{"-nodefaults", "-no-user-config", "-machine", firmware.machine, "-smp", "2", "-m", fmt.Sprint(s.Memory), "-display", "none", "-vga", "std",
		"-chardev", "socket,id=qmp,server=on,wait=off,path=" + socket, "-mon", "chardev=qmp,mode=control",
		"-chardev", "file,id=serial,path=" + s.serial(), "-serial", "chardev:serial",
		"-drive", "if=none,id=root,format=qcow2,cache=unsafe,file=" + s.disk(),
		"-netdev", m.network(),
		"-no-reboot"}
	if !s.BIOS {
		args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+firmware.code, "-drive", "if=pflash,format=raw,file="+s.vars())
		args = append(args, firmware.options...)
	}
	for _, device := range Buses[s.Bus] {
		args = append(args, "-device", device)
	}
	if s.Kernel != "" {
		args = append(args, "-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra="+s.Kernel)
	}
	for _, value := range s.SMBIOS {
		args = append(args, "-smbios", "type=11,value="+value)
	}
	return append(append(args, s.Options...), "-device", s.NIC+",netdev=net,romfile=")
}

// network is one that leads to the machine from here.
func (m *Machine) network() string {
	leads := func(from, to int) string {
		return fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-%s:%d", from, m.spec.Address, to)
	}
	network := "user,id=net" + leads(m.api, m.spec.Port)
	for _, port := range m.spec.Ports {
		network += leads(m.ports[port], port)
	}
	return network
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// URL is where the appliance's API is reached.
func (m *Machine) URL() string { return fmt.Sprintf("https://127.0.0.1:%d", m.api) }

// Address is where another port of the machine's is reached.
func (m *Machine) Address(port int) string { return fmt.Sprintf("127.0.0.1:%d", m.ports[port]) }

// Serial is what the serial port has said until now.
func (m *Machine) Serial() string {
	text, err := os.ReadFile(m.spec.serial())
	if err != nil {
		return ""
	}
	return string(text)
}

// Says waits until the serial port has said a text.
func (m *Machine) Says(ctx context.Context, text string) error {
	return m.until(ctx, func() (bool, error) { return strings.Contains(m.Serial(), text), nil }, "say "+text)
}

// Shows waits until the screen shows all texts at once, wherever their lines end.
func (m *Machine) Shows(ctx context.Context, texts ...string) error {
	var shown string
	err := m.until(ctx, func() (bool, error) {
		s, err := screen.Look(ctx, m)
		shown = s.Text
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(flat(shown), flat(text)) }), err
	}, "show "+strings.Join(texts, " and "))
	if err != nil {
		return fmt.Errorf("%w\nit shows:\n%s", err, shown)
	}
	return nil
}

// flat is a text without blanks and ends of lines.
func flat(s string) string { return strings.Join(strings.Fields(s), "") }

// until asks again and again, until the answer is yes.
func (m *Machine) until(ctx context.Context, is func() (bool, error), what string) error {
	for {
		yes, err := is()
		if yes {
			return nil
		}
		select {
		case <-m.server.Done():
			return fmt.Errorf("QEMU ended before the appliance did %s: %s\n%s", what, m.server.Stderr(), tail(m.Serial()))
		case <-ctx.Done():
			return fmt.Errorf("%w: the appliance did not %s: %w\n%s", context.Cause(ctx), what, err, tail(m.Serial()))
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-3000):] }

// Ended waits until the machine has switched itself off.
func (m *Machine) Ended(ctx context.Context) error {
	select {
	case <-m.server.Done():
		return m.server.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Pull ends the machine as if its power had been cut.
func (m *Machine) Pull() error { return errors.Join(m.Close(), m.server.Kill()) }
