package guests

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"hyper2kvm/pipeline/machine"
)

// file is a file that a recipe puts into its guest, owned by root. With Link it
// is a symbolic link to there.
type file struct {
	Path    string
	Mode    int64
	Content string
	Link    string
}

// files is everything that makes the installed packages this guest, and what
// the finish boot needs, which takes itself away again.
func (r Recipe) files() []file {
	return slices.Concat([]file{
		{Path: "etc/hostname", Mode: 0o644, Content: r.Name + "\n"},
		{Path: "etc/hosts", Mode: 0o644, Content: fmt.Sprintf("127.0.0.1\tlocalhost\n127.0.1.1\t%s\n", r.Name)},
		{Path: "etc/resolv.conf", Mode: 0o644, Content: fmt.Sprintf("nameserver %s\n", r.NICs[0].neighbour())},
		{Path: "etc/fstab", Mode: 0o644, Content: r.fstab()},
		{Path: "etc/default/grub", Mode: 0o644, Content: r.grubDefaults()},
		{Path: "etc/systemd/system/finish.service", Mode: 0o644, Content: finishUnit},
		{Path: "etc/systemd/system/multi-user.target.wants/finish.service", Link: "../finish.service"},
		{Path: "usr/local/sbin/finish", Mode: 0o755, Content: r.finishScript()},
	}, r.patience(), r.dataFiles(), r.pins(), r.stackFiles(), tools[r.Initrd.Tool].files(r), networks[r.Network].files(r))
}

func (r Recipe) fstab() string {
	var b strings.Builder
	b.WriteString("# <file system> <mount point> <type> <options> <dump> <pass>\n")
	for _, v := range r.volumes() {
		b.WriteString(v.fstabLines())
	}
	return b.String()
}

// dataFiles are something to lose on each volume that holds no system.
func (r Recipe) dataFiles() []file {
	var files []file
	for _, v := range r.volumes() {
		for _, mount := range v.Mounts() {
			if mount != "/" && mount != swapSpace && !strings.HasPrefix(mount, "/boot") {
				files = append(files, file{Path: mount[1:] + "/ledger", Mode: 0o640, Content: fmt.Sprintf("%s of %s\n", mount, r.Name)})
			}
		}
	}
	return files
}

func (r Recipe) patience() []file {
	if r.Patience == 0 {
		return nil
	}
	seconds := int(r.Patience.Seconds())
	return []file{{Path: "etc/systemd/system.conf.d/patience.conf", Mode: 0o644,
		Content: fmt.Sprintf("[Manager]\nDefaultDeviceTimeoutSec=%d\nDefaultTimeoutStartSec=%[1]d\n", seconds)}}
}

func (r Recipe) pins() []file {
	var rules string
	for _, n := range r.NICs {
		if n.Pinned {
			rules += n.udevRule()
		}
	}
	if rules == "" {
		return nil
	}
	return []file{{Path: "etc/udev/rules.d/70-persistent-net.rules", Mode: 0o644, Content: rules}}
}

// grubDefaults makes update-grub write what the recipe says. Names in the
// kernel's order take a setting; a logical volume's own name does not.
func (r Recipe) grubDefaults() string {
	var line, end string
	if r.Console {
		line = "console=tty0 console=ttyS0,115200n8"
	}
	if r.BootNames == ByKernel {
		end = "# the template was cloned and UUIDs were doubled\nGRUB_DISABLE_LINUX_UUID=true\n"
	}
	return fmt.Sprintf(`GRUB_DEFAULT="%s"
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=`+"`lsb_release -i -s 2> /dev/null || echo Debian`"+`
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="%s"
%s`, r.GrubDefault, line, end)
}

// debconf answers what the installer asked: grub-pc's own record of the disk to
// install to is one that exists on VMware only.
func (r Recipe) debconf() string {
	if r.Firmware == machine.UEFI {
		return ""
	}
	var disks []string
	for i := range r.loaderDisks() {
		disks = append(disks, "/dev/disk/by-id/scsi-3"+r.Disks[i].WWN)
	}
	return fmt.Sprintf("grub-pc grub-pc/install_devices multiselect %s\n"+
		"grub-pc grub-pc/install_devices_empty boolean false\n", strings.Join(disks, ", "))
}

// loaderDisks is how many disks have the boot loader: all of an array's.
func (r Recipe) loaderDisks() int {
	if len(r.Arrays) > 0 {
		return len(r.Disks)
	}
	return 1
}

// installed is the time that our files bear, so that a recipe's hash stays.
var installed = time.Date(2025, time.January, 1, 0, 0, 0, 0, time.UTC)

// overlay is the files as a tar archive, the same bytes each time.
func overlay(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		head := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: f.Mode, Size: int64(len(f.Content)), ModTime: installed}
		if f.Link != "" {
			head.Typeflag, head.Linkname, head.Mode = tar.TypeSymlink, f.Link, 0o777
		}
		if err := w.WriteHeader(head); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(f.Content)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
