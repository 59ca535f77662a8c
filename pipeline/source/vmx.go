package source

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"hyper2kvm/pipeline/disk"
)

// maxVMX bounds a VMX file; VMware's are a few kilobytes.
const maxVMX = 1 << 20

// VMX is the settings of a VMX file by lower-case key.
type VMX map[string]string

// ParseVMX reads a VMX file's text, in the encoding that it names. Keys fold
// their case, and |22 stands for a quotation mark in a value. A setting of the
// machine that is given twice, and differently, is refused: which of them holds
// is VMware's to say, which refuses it too.
//
// Source: virt-v2v, parse_vmx.ml; files written by Workstation, Fusion and ESXi.
func ParseVMX(r io.Reader) (VMX, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxVMX+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxVMX {
		return nil, fmt.Errorf("it has more than %d bytes: it is no VMX file", maxVMX)
	}
	text, err := disk.UTF8(data)
	if err != nil {
		return nil, err
	}
	v, n, said := VMX{}, 0, map[string]int{}
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return nil, fmt.Errorf("line %d is not a setting: %.40q", n, line)
		}
		value = unescaped(strings.Trim(strings.TrimSpace(value), `"`))
		if other, ok := v[key]; ok && other != value && hardware.MatchString(key) {
			return nil, fmt.Errorf("line %d gives %s again, and differently: %.40q after %.40q in line %d; take one of them out", n, key, value, other, said[key])
		}
		v[key], said[key] = value, n
	}
	return v, nil
}

// hardware are the keys that are read here.
var hardware = regexp.MustCompile(`^(?:scsi|nvme|sata|ide|ethernet)\d|^(?:firmware|uefi\.|bios\.|numvcpus|cpuid\.cores|memsize|displayname|guestos|uuid\.|vtpm\.|checkpoint\.|pcipassthru)`)

var vmxEscape = regexp.MustCompile(`\|[0-9A-Fa-f]{2}`)

// unescaped is a value as it is meant. What would be no text then is none of
// VMware's escapes.
func unescaped(value string) string {
	meant := vmxEscape.ReplaceAllStringFunc(value, func(e string) string {
		b, err := strconv.ParseUint(e[1:], 16, 8)
		if err != nil {
			return e
		}
		return string([]byte{byte(b)})
	})
	if !utf8.ValidString(meant) {
		return value
	}
	return meant
}

// is tells whether a setting has a value, in whatever case.
func (v VMX) is(key, value string) bool { return strings.EqualFold(strings.TrimSpace(v[key]), value) }

// absent tells whether a device is there but switched off.
func (v VMX) absent(device string) bool { return v.is(device+".present", "FALSE") }

// number is a setting that is a number up to most.
func (v VMX) number(key string, fallback, most int) (int, error) {
	text, ok := v[key]
	if !ok {
		return fallback, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%s = %.40q is not a number from 0 to %d", key, text, most)
	}
	return n, nil
}
