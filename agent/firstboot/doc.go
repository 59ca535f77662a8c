// Package firstboot gives an appliance what it cannot know by itself: its name, its
// network, whom to trust. It runs early in each boot, before the network and the agent,
// reads all sources, and writes the files that systemd, sshd and the agent read.
//
// Words:
//
//   - Source: where somebody says settings: the OVF environment, VMware's guestinfo, a
//     seed volume, the kernel command line, the appliance's console. Later ones lie over
//     earlier ones, key by key.
//   - Key: the name of one setting, the same in all sources.
//   - Seed volume: a FAT or ISO 9660 file system with the label HYPER2KVM-SEED, that
//     holds hyper2kvm.yaml and the files that this names.
//   - Problem: a sentence on what could not be used, with its source and its key, and
//     what to write instead.
//
// What somebody says is hostile input: it is read within bounds, nothing is mounted and
// nothing is run. What is right is applied whatever else is wrong, and a network that is
// wrong becomes DHCP, so that the appliance can be reached and tells why.
package firstboot
