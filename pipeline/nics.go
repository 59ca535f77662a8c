package pipeline

import (
	"crypto/sha256"
	"fmt"

	"hyper2kvm/pipeline/machine"
)

func nic(mac string) machine.NIC { return machine.NIC{MAC: mac} }

// madeUpMAC is an address for a NIC of which only its existence is known, in
// QEMU's range 52:54:00; the same name always gets the same one.
func madeUpMAC(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}
