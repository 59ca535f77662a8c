package appliance

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"hyper2kvm/pipeline/machine"
	"hyper2kvm/testers/guests"
)

// bare is a Debian 13 with one HTTP service, as anybody installs it.
var bare = guests.Recipe{
	Name:        "bare13",
	Release:     "trixie",
	Packages:    []string{"lighttpd", "zstd"},
	Firmware:    machine.BIOS,
	Initrd:      guests.Initrd{Tool: guests.InitramfsTools},
	Network:     guests.Networkd,
	GrubDefault: "0",
	Patience:    5 * time.Minute,
	UUID:        "564d5e90-17ac-42b8-9f63-2d80c1b7e4a5",
	CPUs:        2,
	MemoryMB:    1024,
	Description: "A web server with nothing else",
	Disks: []guests.Disk{{
		Size:  4 << 30,
		Table: "dos",
		ID:    "0x7a94c1e3",
		WWN:   "6000c29b50d7e8136fa92c4471be05d8",
		Partitions: []guests.Partition{
			{Filesystem: guests.Filesystem{Mount: "/", Type: "ext4", Size: 3000 << 20, UUID: "4f0b96a2-8e1d-47c3-b5f7-62d9a0e318c4"}},
			{Filesystem: guests.Filesystem{Mount: "none", Type: "swap", Size: 512 << 20, UUID: "b3d7e5f0-64a9-4c28-91be-0f5a7d2c63e8"}},
		},
	}},
	NICs: []guests.NIC{{MAC: "00:50:56:13:ba:7e", Name: "ens192"}},
}

// bareSlot is where its card is, whose name tells of that.
var bareSlot = []string{"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-device", "pcie-root-port,id=card,chassis=1,slot=192"}

// mostOfBare is how many times the time of the bare Debian an appliance may take.
const mostOfBare = 2

// BenchmarkStart is the time from power-on until the appliance's API is ready, beside that
// until a bare Debian 13 answers on HTTP: in turns, by BIOS from a virtio disk, with the
// same processors and memory.
func BenchmarkStart(b *testing.B) {
	raw := image(b)
	g, err := guests.Build(b.Context(), bare, slog.Default())
	if err != nil {
		b.Fatal(err)
	}
	var ours, theirs time.Duration
	for b.Loop() {
		theirs += untilReady(b, Spec{Image: g.VMDK, Port: 80, BIOS: true, NIC: "virtio-net-pci,bus=card", Options: bareSlot}, (*Machine).greets)
		ours += untilReady(b, Spec{Image: raw, BIOS: true}, (*Machine).Ready)
	}
	ratio := ours.Seconds() / theirs.Seconds()
	b.ReportMetric(ours.Seconds()/float64(b.N), "appliance-s")
	b.ReportMetric(theirs.Seconds()/float64(b.N), "bare-debian-s")
	b.ReportMetric(ratio, "of-bare-debian")
	if ratio > mostOfBare {
		b.Errorf("the appliance takes %.2f times as long as a bare Debian: at most %d was the aim", ratio, mostOfBare)
	}
}

func untilReady(b *testing.B, s Spec, ready func(*Machine, context.Context) error) time.Duration {
	b.Helper()
	began := time.Now()
	m, ctx := started(b, s)
	if err := ready(m, ctx); err != nil {
		b.Fatal(err)
	}
	took := time.Since(began)
	if err := m.Pull(); err != nil {
		b.Fatal(err)
	}
	return took
}

// greets waits until the machine answers on HTTP.
func (m *Machine) greets(ctx context.Context) error {
	c := m.Client()
	return m.until(ctx, func() (bool, error) {
		r, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/", m.api))
		if err != nil {
			return false, err
		}
		return r.StatusCode == http.StatusOK, r.Body.Close()
	}, "answer on HTTP")
}
