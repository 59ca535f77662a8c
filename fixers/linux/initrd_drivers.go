package linux

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"hyper2kvm/fixers/fixer"
	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/initrd"
	"hyper2kvm/fixers/inspect"
)

// initrdDrivers makes every kernel on offer find its root on KVM: a supplement
// is appended to an initrd that lacks virtio's drivers or has unstable names
// baked in; to one inside a unified image it is an addon. What is needed is then written to the settings of the guest's own
// initrd generator too, so that its next initrd is as good.
//
// virtio_net is never brought along: without it the network cards appear after
// the root was switched, and are named by the guest's own udev alone. An initrd
// that has it, or a kernel with it built in, names them before that; udev before
// version 240 does not rename a card a second time. Such an initrd gets copies
// of the rules that interfaceNames wrote.
//
// Source: package initrd; systemd NEWS 240, NamePolicy=keep.
var initrdDrivers = fixer.Fixer{
	Name:    "linux/initrd-drivers",
	Why:     "the initrd has no driver for virtio disks, or waits for names that do not exist on KVM: the root is never found",
	Vital:   true,
	Applies: onLinux,
	Plan: func(ctx context.Context, g *guest.View, in fixer.Input) ([]fixer.Concern, error) {
		p := initrdPlan{view: g, in: in, persist: map[string][]string{}}
		for _, k := range in.Facts.Kernels {
			if ctx.Err() != nil {
				return p.concerns, context.Cause(ctx)
			}
			if err := p.kernel(k); err != nil {
				p.warn(k, notSupplemented(k, err))
			}
		}
		return p.concerns, p.persistAll()
	},
}

// rootDrivers are what a kernel needs to see a virtio disk; comforts are brought
// along in a supplement so that the disk may be moved to virtio-scsi later;
// fallback is enough when a kernel has virtio-scsi alone.
var (
	rootDrivers = []string{"virtio_pci", "virtio_blk"}
	comforts    = []string{"virtio_scsi", "sd_mod"}
	fallback    = []string{"virtio_pci", "virtio_scsi", "sd_mod"}
)

type initrdPlan struct {
	view     *guest.View
	in       fixer.Input
	concerns []fixer.Concern
	persist  map[string][]string // by generator: drivers that its next initrd must have
}

// warn records a concern about a kernel: a blocker if it is, or may be, the one
// that starts.
func (p *initrdPlan) warn(k inspect.Kernel, c fixer.Concern) {
	c.Level = fixer.Warning
	if startsGuest(p.in, k) {
		c.Level = fixer.Blocker
	}
	p.concerns = append(p.concerns, c)
}

func (p *initrdPlan) kernel(k inspect.Kernel) error {
	if k.Initrd == "" && !(k.Unified && takesAddons(p.in, k, addonInitrd)) {
		p.withoutInitrd(k)
		return nil
	}
	override, err := p.networkRules(k)
	if err != nil {
		return err
	}
	onLVM, onMd := len(neededMembers(p.in)) > 0, len(arrays(p.in)) > 0
	if ready(k) && len(override) == 0 && !p.mayHaveCopies() && !onLVM && !onMd {
		return nil
	}
	data, err := p.read(k)
	if err != nil {
		return err
	}
	rd, err := initrd.Parse(data, initrd.Limits{})
	if err != nil {
		return err
	}
	want, err := p.want(k, rd)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(fixedInitrds, func(f fixedInitrd) bool { return rd.Has(f.sign) }); len(want) > 0 && i >= 0 {
		if f := fixedInitrds[i]; !f.drives(k, rd) {
			p.warn(k, fixedDrivers(k, f))
		}
		want = nil
	}
	if err := p.copies(rd, override); err != nil {
		return err
	}
	if onMd {
		p.mdadmFiles(k, rd, override)
	}
	p.renames(k, rd, override)
	if onLVM {
		p.lvmFiles(k, rd, override)
	}
	return p.supplement(k, rd, want, override)
}

// read reads a kernel's initrd, from its image if it is unified.
func (p *initrdPlan) read(k inspect.Kernel) ([]byte, error) {
	if !k.Unified {
		return p.view.ReadFile(k.Initrd, guest.MaxFile)
	}
	image, err := p.view.ReadFile(k.Image, guest.MaxFile)
	if err != nil {
		return nil, err
	}
	return inspect.UnifiedInitrd(image)
}

// want is what a supplement must bring; nothing if the initrd has it all.
func (p *initrdPlan) want(k inspect.Kernel, rd *initrd.Initrd) ([]string, error) {
	if k.Modules == "" {
		if !ready(k) {
			p.warn(k, withoutModules(k))
		}
		return nil, nil
	}
	modules := moduleFolder{p.view, k.Modules}
	missing, absent, err := rd.Missing(modules, k.Version, rootDrivers)
	if err != nil {
		return nil, err
	}
	want := slices.Concat(rootDrivers, comforts)
	if len(absent) > 0 {
		var none []string
		if missing, none, err = rd.Missing(modules, k.Version, fallback); err != nil {
			return nil, err
		}
		if len(none) > 0 {
			p.warn(k, withoutVirtio(k, absent))
			return nil, nil
		}
		want = fallback
	}
	if len(missing) == 0 {
		return nil, nil
	}
	_, absent, err = rd.Missing(modules, k.Version, want)
	return without(want, absent), err
}

func (p *initrdPlan) supplement(k inspect.Kernel, rd *initrd.Initrd, want []string, override map[string][]byte) error {
	s, err := rd.Supplement(moduleFolder{p.view, k.Modules}, k.Version, want, override)
	if errors.Is(err, initrd.ErrNested) {
		if len(want) > 0 {
			p.warn(k, nested(k, rd))
		}
		return nil
	}
	if err != nil {
		return err
	}
	if len(s.Bytes) == 0 {
		return nil
	}
	for _, b := range p.in.Facts.Bootloaders {
		if b.Kind == "lilo" {
			p.warn(k, blockList(k))
		}
	}
	if len(s.Modules) > 0 && s.LoadList == "" && !rd.LoadsByAlias() {
		p.warn(k, neverLoaded(k))
	}
	if len(want) > 0 && rd.Generator != "" {
		p.persist[rd.Generator] = append(p.persist[rd.Generator], without(want, p.persist[rd.Generator])...)
	}
	if k.Unified {
		return p.view.WriteBinary(addonPath(k, "initrd"), addon(".initrd", s.Bytes), "an addon to the initrd: "+describe(s))
	}
	return p.view.Append(k.Initrd, s.Bytes, describe(s))
}

// describe says in a sentence what a supplement brings.
func describe(s *initrd.Supplement) string {
	text := fmt.Sprintf("%d bytes appended (%s)", len(s.Bytes), s.Compression)
	if len(s.Modules) > 0 {
		text += ": drivers " + strings.Join(s.Modules, ", ")
	}
	var others []string
	for _, f := range s.Files {
		if !strings.Contains(f, "lib/modules/") {
			others = append(others, f)
		}
	}
	if len(others) > 0 {
		text += "; files " + strings.Join(others, ", ")
	}
	return text
}

// withoutInitrd judges a kernel that mounts its root by itself, or with an initrd
// inside its image, which inspection has read.
func (p *initrdPlan) withoutInitrd(k inspect.Kernel) {
	for _, name := range rootDrivers {
		if w := k.Drivers[name]; w == inspect.Builtin || w == inspect.InInitrd {
			continue
		}
		if k.Unified || k.Generator != "" {
			p.warn(k, unifiedWithout(k, name))
			return
		}
		p.warn(k, fixer.Concern{
			Code: "linux/kernel-without-virtio",
			Text: fmt.Sprintf("kernel %s starts without an initrd and has no %s built in", k.Version, name),
			Try:  "make an initrd in the guest, or give the machine a SATA disk and an e1000e network card",
		})
		return
	}
}

// moduleFolder is a kernel's folder of modules in the guest.
type moduleFolder struct {
	view *guest.View
	dir  string
}

func (m moduleFolder) ReadFile(name string, limit int64) ([]byte, error) {
	return m.view.ReadFile(path.Join(m.dir, name), limit)
}

// networkRules are the files that an initrd must have when network cards appear
// in it. They go below etc, which wins over the copies below lib that
// initramfs-tools makes.
func (p *initrdPlan) networkRules(k inspect.Kernel) (map[string][]byte, error) {
	files := map[string][]byte{}
	if w := k.Drivers["virtio_net"]; w != inspect.InInitrd && w != inspect.Builtin {
		return files, nil
	}
	names, err := listed(p.view, ownLinks, ".link")
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(path.Base(name), linkPrefix) })
	for _, c := range p.view.Changes() {
		isRule := strings.HasPrefix(c.Path, ownRules+"/") || strings.HasPrefix(c.Path, ownLinks+"/") && strings.HasSuffix(c.Path, ".link")
		if c.Fixer == interfaceNames.Name && isRule {
			names = append(names, c.Path)
		}
	}
	for _, name := range names {
		data, err := p.view.ReadFile(name, guest.MaxText)
		if err != nil {
			return nil, err
		}
		files[strings.TrimPrefix(name, "/")] = data
	}
	return files, nil
}
