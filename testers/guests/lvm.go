package guests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"hyper2kvm/pipeline/disk/loop"
	"hyper2kvm/pipeline/proc"
)

// lvmConfig lets LVM write its metadata on one device, and nothing else: it asks
// no kernel for device-mapper and no udev, and neither sees this machine's own
// groups nor keeps a backup among theirs. Source: lvm.conf(5), global/activation.
const lvmConfig = `devices { use_devicesfile=0 obtain_device_list_from_udev=0 filter=[ "a|^%s$|", "r|.*|" ] }
global { activation=0 use_lvmpolld=0 locking_dir="%[2]s" }
activation { udev_sync=0 udev_rules=0 monitoring=0 }
backup { backup=0 archive=0 }
`

// groupCommands make a group and its volumes on a device, which is the only
// physical volume. Every volume gets its extents by number: they are where
// Group.volumes says, so file systems can be written there without device-mapper.
func groupCommands(g Group, device string) [][]string {
	commands := [][]string{
		{"pvcreate", "--quiet", device},
		{"vgcreate", "--quiet", g.Name, device},
	}
	first := int64(0)
	for _, l := range g.Volumes {
		n := l.Size / extent
		commands = append(commands, []string{
			"lvcreate", "--quiet", "--activate", "n", "--zero", "n", "--wipesignatures", "n",
			"--extents", fmt.Sprint(n), "--name", l.Name, g.Name, fmt.Sprintf("%s:%d-%d", device, first, first+n-1),
		})
		first += n
	}
	return commands
}

// makeGroup writes LVM's metadata of a partition that begins there on a disk.
func (b *build) makeGroup(ctx context.Context, p Partition, disk int, start int64) error {
	file := filepath.Join(b.dir, "group")
	if err := createSparse(file, p.Size); err != nil {
		return err
	}
	err := onLoop(file, func(device string) error {
		for _, args := range groupCommands(p.Group, device) {
			if _, err := b.lvm(ctx, device, args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return place(file, b.raw(disk), start)
}

// lvm runs one command of LVM that sees one device only.
func (b *build) lvm(ctx context.Context, device string, args ...string) ([]byte, error) {
	system := filepath.Join(b.dir, "lvm")
	if err := os.MkdirAll(system, 0o700); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(lvmConfig, device, system)
	if err := os.WriteFile(filepath.Join(system, "lvm.conf"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return proc.Command{Name: "lvm", Args: args, Env: []string{"LVM_SYSTEM_DIR=" + system}}.Run(ctx)
}

// onLoop lends a loop device of a file.
func onLoop(file string, use func(device string) error) (err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	d, err := loop.Attach(f, 0, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Detach()) }()
	return use(d.Node())
}
