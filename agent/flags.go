package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline"
	"hyper2kvm/pipeline/disk"
	"hyper2kvm/pipeline/source"
	"hyper2kvm/pipeline/transfer"
	"hyper2kvm/testers/libvirt"
)

// flags are what the commands that run the pipeline share.
type flags struct {
	to, engine, output string
	shape              disk.Shape
	clusterSize        string
	limits, devices    []string
	storages           []string
	overwrite          bool
	noTest             bool
	plan               string
	folders            []string
	grow, keys         []string
	with, connect      string
	hardware           string
	remote             remoteFlags
	vsphere            vsphereFlags
	overrides          pipeline.Overrides
}

func (f *flags) addTarget(c *cobra.Command) {
	c.Flags().StringVar(&f.to, "to", ".", "folder in which the migration's own folder is made")
	c.Flags().StringVar(&f.shape.Format, "format", disk.QCOW2, "format of the converted disks: qcow2, raw, vmdk, vdi or vhdx")
	c.Flags().BoolVar(&f.shape.Compress, "compress", false, "compress the converted disks (qcow2)")
	c.Flags().StringVar(&f.clusterSize, "cluster-size", "", "size of the converted disks' clusters (qcow2), such as 64K or 2M")
	c.Flags().StringVar(&f.shape.Preallocation, "preallocation", "", "room that is taken beforehand: off, metadata (qcow2), falloc or full")
	c.Flags().StringArrayVar(&f.devices, "disk-to", nil, "put a disk into a block device instead of a file: 0=/dev/vg0/web01 (may be repeated; disks are counted from 0)")
	c.Flags().BoolVar(&f.overwrite, "overwrite", false, "the devices of --disk-to may hold something, which is lost")
	f.addLimit(c)
	f.addMaps(c)
}

// addMaps adds what the target has otherwise than the source.
func (f *flags) addMaps(c *cobra.Command) {
	c.Flags().IntVar(&f.overrides.CPUs, "cpus", 0, "CPUs of the target, if not as many as the source's")
	c.Flags().Var((*sizeFlag)(&f.overrides.Memory), "memory", "memory of the target, such as 4G, if not as much as the source's")
	c.Flags().StringToStringVar(&f.overrides.Networks, "network", nil, `network of the target by the source's name for it: "VM Network=default" for one of libvirt's, "DMZ=bridge:br0" for a bridge, "*" for all others (may be repeated)`)
	c.Flags().StringArrayVar(&f.storages, "storage", nil, `folder in which the folder is made of the disks that lie on a datastore, instead of --to: "fast=/srv/ssd"; with --appliance a storage there (may be repeated)`)
}

// sizeFlag is a flag's number of bytes.
type sizeFlag int64

// String implements pflag.Value.
func (s *sizeFlag) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}

// Set implements pflag.Value.
func (s *sizeFlag) Set(text string) error {
	n, err := transfer.ParseSize(text)
	*s = sizeFlag(n)
	return err
}

// Type implements pflag.Value.
func (*sizeFlag) Type() string { return "size" }

// sourcesName stands in a name for the source's.
const sourcesName = "{name}"

// called is what a source's target is called.
func (f *flags) called(name string) string {
	if f.remote.name == "" {
		return name
	}
	return pipeline.FolderName(strings.ReplaceAll(f.remote.name, sourcesName, name) + ".vmx") // a dot in it begins no extension
}

// targets are the devices that the flags called disk-to name.
func (f *flags) targets() (map[int]string, error) {
	list := map[int]string{}
	for _, text := range f.devices {
		number, path, _ := strings.Cut(text, "=")
		i, err := strconv.Atoi(number)
		if err != nil || i < 0 || path == "" || list[i] != "" {
			return nil, fmt.Errorf("%w: --disk-to %s: want each disk once, such as 0=/dev/vg0/web01", errUsage, text)
		}
		if list[i], err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	if f.overwrite && len(list) == 0 {
		return nil, fmt.Errorf("%w: --overwrite is for the devices of --disk-to", errUsage)
	}
	return list, nil
}

// mapped are the targets of the flags called storage, by the source's names.
func (f *flags) mapped() (map[string]string, error) {
	list := map[string]string{}
	for _, text := range f.storages {
		from, to, _ := strings.Cut(text, "=")
		if from == "" || to == "" || list[from] != "" {
			return nil, fmt.Errorf("%w: --storage %s: want each datastore once, such as fast=/srv/ssd", errUsage, text)
		}
		list[from] = to
	}
	return list, nil
}

// elsewhere are the folders that disks go to instead of one below --to that is called name.
func (f *flags) elsewhere(name string) (pipeline.Storages, error) {
	list, err := f.mapped()
	if err != nil {
		return nil, err
	}
	folders := pipeline.Storages{}
	for from, to := range list {
		if info, err := os.Stat(to); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("%w: --storage %s=%s: that is not a folder that is there", source.ErrBadInput, from, to)
		}
		if folders[from], err = filepath.Abs(filepath.Join(to, name)); err != nil {
			return nil, err
		}
	}
	return folders, nil
}

func (f *flags) addLimit(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.limits, "limit", nil,
		`how fast sources are read, such as 50M a second, or in a window of the week: "mon-fri 08:00-18:00=20M" (may be repeated; the first that holds is taken)`)
}

// targetShape is how the converted disks are to be made, if the command has
// addTarget's flags.
func (f *flags) targetShape() (disk.Shape, error) {
	s := f.shape
	if s.Format == "" {
		return s, nil
	}
	if f.clusterSize != "" {
		n, err := transfer.ParseSize(f.clusterSize)
		if err != nil {
			return s, fmt.Errorf("%w: --cluster-size: %w", errUsage, err)
		}
		s.ClusterSize = n
	}
	if err := s.Check(); err != nil {
		return s, fmt.Errorf("%w: %w", errUsage, err)
	}
	return s, nil
}

// speed is what the flags called limit say.
func (f *flags) speed() ([]transfer.Limit, error) {
	var list []transfer.Limit
	for _, text := range f.limits {
		l, err := transfer.ParseLimit(text)
		if err != nil {
			return nil, fmt.Errorf("%w: --limit: %w", errUsage, err)
		}
		list = append(list, l)
	}
	return list, nil
}

func (f *flags) addNoTest(c *cobra.Command) {
	c.Flags().BoolVar(&f.noTest, "no-test", false, "convert alone; the result is not proved to boot")
}

// whyNoTest is why a result is not tested that --no-test asks for.
const whyNoTest = "asked for with --no-test"

// skipped are the stages that flags leave out, with why.
func (f *flags) skipped() map[string]string {
	if f.noTest {
		return map[string]string{"test": whyNoTest}
	}
	return map[string]string{}
}

func (f *flags) addEngine(c *cobra.Command) {
	c.Flags().StringVar(&f.engine, "engine", pipeline.Auto, "how to reach the guest's files: auto, direct or libguestfs")
}

func (f *flags) addFolders(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.folders, strings.TrimPrefix(disk.AllowFlag, "--"), nil,
		"folder in which other files of the disks may lie: the parent of a linked clone, extents, disks of a VMX file (may be repeated)")
}

// allowed are the folders of --allow-folder, wherever the operator stands.
func (f *flags) allowed() ([]string, error) {
	var list []string
	for _, name := range f.folders {
		folder, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("%w: %s %s is not a folder that is there", source.ErrBadInput, disk.AllowFlag, name)
		}
		list = append(list, folder)
	}
	return list, nil
}

// addTester names what runs the tested machine, by the flag called name.
func (f *flags) addTester(c *cobra.Command, name string) {
	c.Flags().StringVar(&f.with, name, withQEMU, "what runs the tested machine: qemu, or libvirt, which then is seen to accept and to run the emitted domain")
	c.Flags().StringVar(&f.connect, "connect", "", "the libvirt to test with, as virsh names it (default "+libvirt.DefaultURI()+")")
}

// withQEMU is what people call pipeline.WithQEMU.
const withQEMU = "qemu"

// tester is what the flags of addTester say.
func (f *flags) tester() (with, connect string) {
	if f.with == withQEMU {
		return pipeline.WithQEMU, ""
	}
	return f.with, f.connect
}

func (f *flags) addOutput(c *cobra.Command) {
	c.Flags().StringVar(&f.output, "output", "text", "text or json")
}

func (f *flags) check() error {
	switch {
	case f.engine != "" && f.engine != pipeline.Auto && f.engine != pipeline.Direct && f.engine != pipeline.Libguestfs:
		return fmt.Errorf("%w: --engine %s: want auto, direct or libguestfs", errUsage, f.engine)
	case f.output != "" && f.output != "text" && f.output != "json":
		return fmt.Errorf("%w: --output %s: want text or json", errUsage, f.output)
	case f.with != "" && f.with != withQEMU && f.with != pipeline.WithLibvirt:
		return fmt.Errorf("%w: to test with %s: want qemu or libvirt", errUsage, f.with)
	case f.with == withQEMU && f.connect != "":
		return fmt.Errorf("%w: --connect is for a test with libvirt", errUsage)
	case f.noTest && f.vsphere.marks() != (model.Marks{}):
		return fmt.Errorf("%w: a VM is marked when its result is proved to boot, and --no-test leaves that out: give --no-test or --mark options, not both", errUsage)
	}
	_, badShape := f.targetShape()
	_, badLimit := f.speed()
	_, badDevice := f.targets()
	_, badStorage := f.mapped()
	return cmp.Or(badShape, badLimit, badDevice, badStorage)
}
