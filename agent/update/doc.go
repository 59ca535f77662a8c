// Package update replaces the version of the appliance that runs by another one, so that
// at every moment one of both starts.
//
// Words:
//
//   - Archive: the one file that a version comes in. It is signed.
//   - Slot: a partition for a root and one for the hashes that it is checked by. The disk
//     has two: one that runs, and a spare one that an archive is written to.
//   - ESP: the partition that firmware starts from, or a folder with its files.
//   - Image: a kernel image on the ESP, which leads into a slot by the hash in its command
//     line. Its name says whether it is on trial, and how often it may still be tried.
//   - Menu: GRUB's configuration for BIOS, made of the images.
//
// Sources: UAPI group, Discoverable Partitions Specification (UUIDs that are halves of the
// hash), Boot Loader Specification (boot counting in names), Version Format Specification.
package update
