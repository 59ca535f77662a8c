package source

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/pipeline/machine"
)

// maxVMX bounds a VMX file; VMware's are a few kilobytes.
const maxVMX = 1 << 20

// VMX is the settings of a VMX file by lower-case key.
type VMX map[string]string

var (
	vmxEscape = regexp.MustCompile(`\|([0-9A-Fa-f]{2})`)
	vmxDisk   = regexp.MustCompile(`^(scsi|nvme|sata|ide)(\d+):(\d+)\.filename$`)
	vmxNIC    = regexp.MustCompile(`^ethernet(\d+)\.present$`)
)

// ParseVMX reads a VMX file's text. Keys fold their case, and |22 stands for a
// quotation mark in a value.
//
// Source: virt-v2v, parse_vmx.ml; files written by Workstation, Fusion and ESXi.
func ParseVMX(r io.Reader) (VMX, error) {
	v := VMX{}
	lines := bufio.NewScanner(io.LimitReader(r, maxVMX))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("line %d is not a setting: %.40q", n, line)
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		v[strings.ToLower(strings.TrimSpace(key))] = vmxEscape.ReplaceAllStringFunc(value, func(e string) string {
			b, err := strconv.ParseUint(e[1:], 16, 8)
			if err != nil {
				return e
			}
			return string([]byte{byte(b)})
		})
	}
	return v, lines.Err()
}

func readVMX(path string, _ []string) (machine.Machine, error) {
	f, err := os.Open(path)
	if err != nil {
		return machine.Machine{}, err
	}
	defer f.Close()
	v, err := ParseVMX(f)
	if err != nil {
		return machine.Machine{}, fmt.Errorf("%s: %w", path, err)
	}
	return v.machine(path)
}

// absent tells whether a device is there but switched off.
func (v VMX) absent(device string) bool { return strings.EqualFold(v[device+".present"], "FALSE") }

func (v VMX) number(key string, fallback int) (int, error) {
	text, ok := v[key]
	if !ok {
		return fallback, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 || n > 1<<24 {
		return 0, fmt.Errorf("%s = %q is not a number that can be meant", key, text)
	}
	return n, nil
}

func (v VMX) machine(path string) (machine.Machine, error) {
	m := machine.Machine{
		Name:       v["displayname"],
		Source:     path,
		Firmware:   machine.BIOS,
		SecureBoot: strings.EqualFold(v["uefi.secureboot.enabled"], "TRUE"),
		UUID:       vmxUUID(v["uuid.bios"]),
		GuestID:    v["guestos"],
	}
	if strings.EqualFold(v["firmware"], "efi") {
		m.Firmware = machine.UEFI
	}
	if m.Name == "" {
		m.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	var err error
	if m.CPUs, err = v.number("numvcpus", 1); err != nil {
		return m, err
	}
	if m.CoresPerSocket, err = v.number("cpuid.corespersocket", 1); err != nil {
		return m, err
	}
	memoryMB, err := v.number("memsize", 32) // VMware's default
	if err != nil {
		return m, err
	}
	if memoryMB == 0 {
		return m, errors.New("memsize is 0: the machine has no memory")
	}
	m.Memory = int64(memoryMB) << 20
	if m.Disks, err = v.disks(filepath.Dir(path)); err != nil {
		return m, err
	}
	m.NICs, err = v.nics()
	return m, err
}

// busOrder is how VMware's firmware, and virt-v2v, look for disks.
var busOrder = []string{"scsi", "nvme", "sata", "ide"}

func (v VMX) disks(folder string) ([]machine.Disk, error) {
	var disks []machine.Disk
	for key, file := range v {
		at := vmxDisk.FindStringSubmatch(key)
		if at == nil {
			continue
		}
		device := strings.TrimSuffix(key, ".filename")
		if v.absent(device) || v.absent(at[1]+at[2]) || !isFixedDisk(v[device+".devicetype"], file) {
			continue
		}
		controller, err := strconv.Atoi(at[2])
		if err != nil {
			return nil, err
		}
		unit, err := strconv.Atoi(at[3])
		if err != nil {
			return nil, err
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(folder, file)
		}
		disks = append(disks, machine.Disk{Path: file, Bus: at[1], Controller: controller, Unit: unit, Model: v[at[1]+at[2]+".virtualdev"]})
	}
	slices.SortFunc(disks, func(a, b machine.Disk) int {
		return cmp.Or(cmp.Compare(slices.Index(busOrder, a.Bus), slices.Index(busOrder, b.Bus)),
			cmp.Compare(a.Controller, b.Controller), cmp.Compare(a.Unit, b.Unit))
	})
	return disks, nil
}

// isFixedDisk tells a disk from a CD drive, which is removable and stays behind.
func isFixedDisk(deviceType, file string) bool {
	deviceType = strings.ToLower(deviceType)
	if strings.Contains(deviceType, "cdrom") || strings.EqualFold(file, "auto detect") || strings.EqualFold(filepath.Ext(file), ".iso") {
		return false
	}
	return file != ""
}

func (v VMX) nics() ([]machine.NIC, error) {
	var numbers []int
	for key := range v {
		if at := vmxNIC.FindStringSubmatch(key); at != nil && !v.absent("ethernet"+at[1]) {
			n, err := strconv.Atoi(at[1])
			if err != nil {
				return nil, err
			}
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var nics []machine.NIC
	for _, n := range numbers {
		device := fmt.Sprintf("ethernet%d", n)
		slot, err := v.number(device+".pcislotnumber", 0)
		if err != nil {
			return nil, err
		}
		// addressType static and vpx keep the address in one key, generated in another
		mac := cmp.Or(v[device+".generatedaddress"], v[device+".address"])
		if kind := strings.ToLower(v[device+".addresstype"]); kind == "static" || kind == "vpx" {
			mac = cmp.Or(v[device+".address"], v[device+".generatedaddress"])
		}
		if mac, err = macAddress(mac); err != nil {
			return nil, fmt.Errorf("%s: %w", device, err)
		}
		nics = append(nics, machine.NIC{MAC: mac, Network: v[device+".networkname"],
			Model: v[device+".virtualdev"], Slot: slot})
	}
	return nics, nil
}

// macAddress is an address in machine.NIC's form; a NIC that was never started
// has none yet.
func macAddress(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return "", fmt.Errorf("%q is not a MAC address", text)
	}
	return mac.String(), nil
}

var uuidDigits = regexp.MustCompile(`^[0-9a-f]{32}$`)

// vmxUUID turns VMware's "56 4d 12 …-…" into a UUID, or nothing.
func vmxUUID(text string) string {
	digits := strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(text))
	if !uuidDigits.MatchString(digits) {
		return ""
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}
