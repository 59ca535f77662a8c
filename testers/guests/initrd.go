package guests

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Tool is what makes a guest's initrds.
type Tool string

// Tools of Debian.
const (
	InitramfsTools Tool = "initramfs-tools"
	Dracut         Tool = "dracut"
)

// tools say what each takes. make runs in the tree and makes the initrds that
// the finish boot needs; finish runs in that boot, and makes what can only be
// made there; list prints the names in an initrd, which ends its command line.
var tools = map[Tool]struct {
	program      string // its package
	files        func(Recipe) []file
	make         func(Recipe) string
	finish, list string
}{
	InitramfsTools: {
		program: "initramfs-tools",
		files:   initramfsToolsFiles,
		make:    func(Recipe) string { return "update-initramfs -c -k all" },
		list:    "lsinitramfs",
	},
	Dracut: {
		program: "dracut",
		files:   dracutFiles,
		make:    dracutAnywhere,
		finish: `for k in /lib/modules/*; do /etc/kernel/postinst.d/dracut "${k##*/}"; done
`,
		list: "lsinitrd",
	},
}

// initramfsToolsFiles leave VMware's drivers only, where a recipe names them.
func initramfsToolsFiles(r Recipe) []file {
	resume := file{Path: "etc/initramfs-tools/conf.d/resume", Mode: 0o644, Content: fmt.Sprintf("RESUME=%s\n", r.at(swapSpace).name(r.BootNames))}
	if len(r.Initrd.Modules) == 0 {
		return []file{resume}
	}
	return []file{
		{Path: "etc/initramfs-tools/conf.d/driver-policy", Mode: 0o644, Content: "MODULES=list\n"},
		resume,
		{Path: "etc/initramfs-tools/modules", Mode: 0o644, Content: "# drivers of the VMware platform only\n" + strings.Join(r.Initrd.Modules, "\n") + "\n"},
	}
}

// dracutFiles make initrds for the host that they are made on. dracut's module
// "qemu" adds virtio's drivers where the host is QEMU, as that of the finish boot
// is, and would stay out on VMware. Its usual compression level takes an emulated
// machine minutes.
// Source: dracut 059, modules.d/90qemu/module-setup.sh; dracut.conf(5).
func dracutFiles(Recipe) []file {
	return []file{{Path: "etc/dracut.conf.d/host.conf", Mode: 0o644, Content: `hostonly="yes"
hostonly_mode="strict"
omit_dracutmodules+=" qemu "
compress="zstd -3 -q -T0"
`}}
}

// dracutAnywhere makes initrds for no host in particular: in a tree nothing tells
// dracut what the host is.
func dracutAnywhere(r Recipe) string {
	return fmt.Sprintf(`for k in /lib/modules/*; do dracut --quiet --no-hostonly --drivers "%s" "/boot/initrd.img-${k##*/}" "${k##*/}"; done`,
		strings.Join(r.Initrd.Modules, " "))
}

// listScript prints a line for each module in each initrd: "initrd", the
// kernel's version and the module's name.
func (r Recipe) listScript() string {
	return fmt.Sprintf(`for initrd in /boot/initrd.img-*; do
	%s "$initrd" | sed -n 's|.*/\([^/]*\)\.ko[.a-z]*$|initrd '"${initrd#*img-}"' \1|p'
done
`, tools[r.Initrd.Tool].list)
}

// parseInitrds reads what listScript printed on a serial port.
func parseInitrds(serial string) map[string][]string {
	initrds := map[string][]string{}
	for line := range strings.Lines(serial) {
		field := strings.Fields(line)
		if len(field) == 3 && field[0] == "initrd" {
			initrds[field[1]] = append(initrds[field[1]], field[2])
		}
	}
	for _, names := range initrds {
		slices.Sort(names)
	}
	return initrds
}

// checkInitrds refuses a guest that would boot on virtio as it is: every kernel
// has an initrd with VMware's drivers and none of virtio's, which each kernel has
// as modules.
func (b *build) checkInitrds(serial string) error {
	b.Initrds = parseInitrds(serial)
	kernels, err := filepath.Glob(filepath.Join(b.tree(), "usr/lib/modules/*"))
	if err != nil {
		return err
	}
	if len(kernels) == 0 {
		return fmt.Errorf("the guest has no kernel")
	}
	if len(b.Initrd.Modules) == 0 {
		return nil // it may boot on virtio: there is more to a migration than that
	}
	for _, folder := range kernels {
		if err := b.checkKernel(folder); err != nil {
			return fmt.Errorf("kernel %s: %w", filepath.Base(folder), err)
		}
	}
	return nil
}

func (b *build) checkKernel(folder string) error {
	builtin, err := readLines(filepath.Join(folder, "modules.builtin"))
	if err != nil {
		return err
	}
	return checkModules(b.Initrd.Modules, b.Initrds[filepath.Base(folder)], modules(builtin), func(module string) (bool, error) {
		found, err := filepath.Glob(filepath.Join(folder, "kernel/drivers/*", module+".ko*"))
		return len(found) > 0, err
	})
}

// checkModules looks for the wanted modules in an initrd or the kernel itself,
// and for virtio's disks nowhere but among the kernel's modules. Its bus alone
// finds no disk: Debian 13 has virtio_pci built in.
func checkModules(wanted, initrd, builtin []string, onDisk func(string) (bool, error)) error {
	for _, module := range wanted {
		if !slices.Contains(initrd, module) && !slices.Contains(builtin, module) {
			return fmt.Errorf("its initrd has no %s", module)
		}
	}
	for _, module := range slices.Concat(initrd, builtin) {
		if module == "virtio_blk" || module == "virtio_scsi" {
			return fmt.Errorf("%s is there before the root is", module)
		}
	}
	found, err := onDisk("virtio_blk")
	if err == nil && !found {
		return fmt.Errorf("it has no module virtio_blk")
	}
	return err
}

// modules are the names of the kernel modules among paths, sorted.
func modules(paths []string) []string {
	var names []string
	for _, p := range paths {
		name, extension, ok := strings.Cut(path.Base(p), ".ko")
		if ok && (extension == "" || extension[0] == '.') {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func readLines(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		lines = append(lines, scan.Text())
	}
	return lines, scan.Err()
}
