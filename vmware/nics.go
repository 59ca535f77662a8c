package vmware

import (
	"cmp"
	"net"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// nicOf is a network card. slot is what the VMX file says of its place, for servers
// that do not say it of the device.
func nicOf(d types.BaseVirtualEthernetCard, slot string, p *places, g *types.GuestInfo) NIC {
	card := d.GetVirtualEthernetCard()
	n := NIC{Key: card.Key, Label: label(card), Model: nicModel(d), MAC: macAddress(card.MacAddress)}
	n.Connected = card.Connectable == nil || card.Connectable.StartConnected
	n.Slot, _ = strconv.Atoi(slot)
	if at, ok := card.SlotInfo.(*types.VirtualDevicePciBusSlotInfo); ok && at.PciSlotNumber > 0 {
		n.Slot = int(at.PciSlotNumber)
	}
	n.network(card.Backing, p)
	if g != nil {
		for _, seen := range g.Net {
			if seen.DeviceConfigId == card.Key {
				n.Addresses = append(n.Addresses, seen.IpAddress...)
			}
		}
	}
	return n
}

// nicModel is VMware's virtualDev of a network card.
func nicModel(d types.BaseVirtualEthernetCard) string {
	switch d.(type) {
	case *types.VirtualVmxnet3, *types.VirtualVmxnet3Vrdma:
		return "vmxnet3"
	case *types.VirtualVmxnet2:
		return "vmxnet2"
	case *types.VirtualVmxnet:
		return "vmxnet"
	case *types.VirtualE1000:
		return "e1000"
	case *types.VirtualE1000e:
		return "e1000e"
	case *types.VirtualPCNet32:
		return "vlance"
	case *types.VirtualSriovEthernetCard:
		return "sriov"
	}
	return ""
}

// macAddress is an address in lower case with colons, or as the server has it.
func macAddress(text string) string {
	if mac, err := net.ParseMAC(text); err == nil {
		return mac.String()
	}
	return strings.ToLower(text)
}

// network notes what a card is connected to.
func (n *NIC) network(b types.BaseVirtualDeviceBackingInfo, p *places) {
	switch b := b.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		n.NetworkKind, n.Network = "standard", unescaped(b.DeviceName)
		if b.Network != nil {
			n.NetworkRef, n.Network = b.Network.Value, cmp.Or(p.name(b.Network), n.Network)
		}
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		n.byKey("distributed", b.Port.PortgroupKey, p)
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		n.byKey("opaque", b.OpaqueNetworkId, p)
	}
}

// byKey notes a network that cards name by a key, which must do where the network's
// name may not be read.
func (n *NIC) byKey(kind, key string, p *places) {
	n.NetworkKind, n.Network = kind, key
	if r, ok := p.keys[key]; ok {
		n.NetworkRef, n.Network = r.Value, p.name(&r)
	}
}
