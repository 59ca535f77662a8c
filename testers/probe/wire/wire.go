// Package wire is what goes over the probe's port: lines of JSON. The probe
// says hello, the host answers with a challenge, and every challenge is
// answered with a report, signed with the key that was injected with the probe.
// Both ends are built from this package; it needs only the standard library.
package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
)

const (
	// Port is the name of the virtio-serial port.
	Port = "org.hyper2kvm.probe.0"
	// KeySize is the size of the key in bytes.
	KeySize = 32
	// MaxLine bounds a line in bytes, both ways.
	MaxLine = 1 << 20
)

// ToHost is a line that the guest sends: a hello or an answer to a challenge.
type ToHost struct {
	Hello  bool            `json:"hello,omitempty"`
	Nonce  string          `json:"nonce,omitempty"`  // the challenge
	Report json.RawMessage `json:"report,omitempty"` // a Report, as it was signed
	MAC    string          `json:"mac,omitempty"`    // hexadecimal HMAC-SHA256 over nonce and report
}

// ToGuest is a line that the host sends: a challenge or a command.
type ToGuest struct {
	Challenge string `json:"challenge,omitempty"` // a nonce, never used twice
	Do        string `json:"do,omitempty"`        // Reboot or PowerOff
}

// The commands that the probe obeys.
const (
	Reboot   = "reboot"
	PowerOff = "poweroff"
)

// Config is the file injected beside the probe.
type Config struct {
	Key []byte `json:"key"`
}

// Sign answers a challenge with a report.
func Sign(key []byte, nonce string, r Report) (ToHost, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return ToHost{}, fmt.Errorf("report: %w", err)
	}
	return ToHost{Nonce: nonce, Report: b, MAC: mac(key, nonce, b)}, nil
}

// Authentic tells whether the holder of key answered the challenge.
func (m ToHost) Authentic(key []byte) bool {
	return m.Nonce != "" && hmac.Equal([]byte(m.MAC), []byte(mac(key, m.Nonce, m.Report)))
}

func mac(key []byte, nonce string, report []byte) string {
	h := hmac.New(sha256.New, key)
	// The length keeps a nonce and a report from being cut elsewhere.
	fmt.Fprintf(h, "%d:%s", len(nonce), nonce)
	h.Write(report)
	return hex.EncodeToString(h.Sum(nil))
}

// Kind is how far the guest has come.
type Kind string

// The kinds of a report.
const (
	Starting  Kind = "starting"  // the boot target is not reached
	Reached   Kind = "reached"   // the boot target is active
	Emergency Kind = "emergency" // the guest waits for an administrator
)

// Report is what the probe sees from inside. It is bounded by the probe and,
// since a guest is hostile, by MaxLine on the host.
type Report struct {
	Kind      Kind     `json:"kind"`
	BootID    string   `json:"boot_id"`
	MachineID string   `json:"machine_id"`
	Hostname  string   `json:"hostname"`
	Kernel    string   `json:"kernel"`
	Uptime    float64  `json:"uptime"`            // seconds
	Clock     int64    `json:"clock"`             // Unix time, seconds
	Tainted   int64    `json:"tainted,omitempty"` // the kernel's flags of what befell it
	State     string   `json:"state"`             // systemctl is-system-running
	Target    string   `json:"target"`            // the default target
	Failed    []string `json:"failed"`            // units
	Jobs      []string `json:"jobs"`              // what systemd still waits for
	Journal   []string `json:"journal,omitempty"`
	Root      Root     `json:"root"`
	Mounts    []Mount  `json:"mounts"`           // file systems of block devices
	Swaps     []string `json:"swaps"`            // block devices, without compressed memory
	Remote    []string `json:"remote,omitempty"` // units that mount what only a network serves
	Disks     []Disk   `json:"disks"`
	NICs      []NIC    `json:"nics"`
	Gateways  []Gate   `json:"gateways"`
	Trouble   []string `json:"trouble,omitempty"` // what the probe could not find out
}

// Root is the file system at /.
type Root struct {
	Source  string `json:"source"`         // as mounted: /dev/mapper/vg-root
	Type    string `json:"type"`           // ext4, xfs …
	Options string `json:"options"`        // of the mount
	UUID    string `json:"uuid,omitempty"` // of the file system, as udev knows it
	Size    int64  `json:"size,omitempty"` // bytes that it has for files, used or free
	// Subvolume is the ID of what is mounted of a btrfs, where the kernel tells it.
	Subvolume uint64   `json:"subvolume,omitempty"`
	Disks     []string `json:"disks"` // kernel names of the disks it lies on
	Writable  bool     `json:"writable"`
	WriteErr  string   `json:"write_error,omitempty"`
}

// Mount is one file system that is mounted.
type Mount struct {
	Path      string `json:"path"`
	Source    string `json:"source"` // /dev/mapper/vg-data
	Type      string `json:"type"`
	UUID      string `json:"uuid,omitempty"`      // of the file system, as udev knows it
	Subvolume uint64 `json:"subvolume,omitempty"` // as in Root
	ReadOnly  bool   `json:"read_only,omitempty"`
}

// Disk is one disk.
type Disk struct {
	Name    string   `json:"name"` // vda
	Size    int64    `json:"size"` // bytes
	Serial  string   `json:"serial,omitempty"`
	Drivers []string `json:"drivers"` // from the disk up to the root port
}

// NIC is one network interface, of hardware or on top of others.
type NIC struct {
	Name      string         `json:"name"`
	MAC       string         `json:"mac"`
	Permanent string         `json:"permanent,omitempty"` // the hardware's own MAC
	Driver    string         `json:"driver,omitempty"`    // none: not hardware
	Lower     []string       `json:"lower,omitempty"`     // interfaces that it lies on
	Carrier   bool           `json:"carrier"`
	State     string         `json:"state"` // operstate
	Addrs     []netip.Prefix `json:"addrs,omitempty"`
}

// Gate is a default gateway.
type Gate struct {
	Addr      netip.Addr `json:"addr"`
	Interface string     `json:"interface"`
	Metric    uint32     `json:"metric"`  // of its route; the least is taken
	Reached   bool       `json:"reached"` // it answered an echo request
}
