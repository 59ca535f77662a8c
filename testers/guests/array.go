package guests

import (
	"fmt"
	"strings"
)

// raidMember is the type of a partition that is a member of an array.
const raidMember = "raid"

// Array is a RAID 1 of md's over the same partition of all disks.
type Array struct {
	Number    int    // of /dev/md0
	UUID      string // as mdadm has it
	Partition int    // from 1
	Filesystem
}

func (a Array) device() string { return fmt.Sprintf("/dev/md%d", a.Number) }

// members are the partitions by VMware's path.
func (a Array) members(r Recipe) []string {
	var all []string
	for i := range r.Disks {
		all = append(all, fmt.Sprintf("%s-part%d", r.byPath(i), a.Partition))
	}
	return all
}

// createArgs make an array whose members are in step: both are about to be written.
func (a Array) createArgs(r Recipe) []string {
	return append([]string{"--create", a.device(), "--run", "--assume-clean", "--level=1", "--metadata=1.2", fmt.Sprintf("--raid-devices=%d", len(r.Disks)),
		"--homehost=" + r.Name, fmt.Sprintf("--name=%d", a.Number), "--uuid=" + a.UUID}, a.members(r)...)
}

// mdadmConf is what Debian's installer leaves, without its comments.
// Source: mdadm 4.2, debian/mkconf; mdadm, Detail.c, what --scan prints.
func (r Recipe) mdadmConf() []file {
	if len(r.Arrays) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString("HOMEHOST <system>\nMAILADDR root\n")
	for _, a := range r.Arrays {
		fmt.Fprintf(&b, "ARRAY /dev/md/%d  metadata=1.2 UUID=%s name=%s:%[1]d\n", a.Number, a.UUID, r.Name)
	}
	return []file{{Path: "etc/mdadm/mdadm.conf", Mode: 0o644, Content: b.String()}}
}
