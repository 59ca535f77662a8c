package inspect

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"hyper2kvm/fixers/guest"
	"hyper2kvm/fixers/initrd"
)

const (
	maxImage   = 256 << 20 // a kernel; unified ones hold their initrd too
	maxKernels = 64
	modulesDir = "/lib/modules"
)

// kernelPrefixes are what the names of kernel images begin with; the version,
// or a flavour, follows.
var kernelPrefixes = []string{"vmlinuz-", "vmlinux-", "kernel-", "bzImage-", "Image-"}

// kernels lists every kernel that a boot loader offers or that is installed,
// with what it can drive. A menu's entry whose kernel is gone is a problem, and
// modules without any image are listed only when there is no image at all:
// neither is a way in which the guest can start.
func (t *files) kernels(ctx context.Context, f Facts, offers []offer) ([]Kernel, error) {
	kernels := t.offered(offers)
	kernels = t.withImages(kernels)
	if len(kernels) == 0 {
		kernels = t.withModules()
	}
	if len(kernels) > maxKernels {
		t.problem("/boot", fmt.Sprintf("%d kernels, of which %d are read", len(kernels), maxKernels))
		kernels = kernels[:maxKernels]
	}
	t.allDrivers(ctx, kernels)
	return kernels, context.Cause(ctx)
}

// offered are the kernels in the boot loaders' menus, each image with each of
// its initrds once.
func (t *files) offered(offers []offer) []Kernel {
	var kernels []Kernel
	for _, o := range offers {
		if !t.isFile(o.image) {
			t.problem(o.source, o.image+" is offered, but is not there")
			continue
		}
		i := slices.IndexFunc(kernels, func(k Kernel) bool { return k.Image == o.image && k.Initrd == o.initrd })
		if i < 0 {
			k := Kernel{Image: o.image, Initrd: o.initrd, Options: o.options, Unified: o.inImage, Stub: o.stub, Offered: true, Source: o.source}
			k.Version, k.Modules = t.version(k, o.version)
			k.note(o.problems...)
			if o.inImage {
				k.note("its initrd is inside the image, which cannot be supplemented")
			}
			kernels = append(kernels, k)
			i = len(kernels) - 1
		}
		if o.chosen {
			k := &kernels[i]
			k.Default, k.Options, k.Source = true, o.options, o.source
		}
	}
	return kernels
}

func (k *Kernel) note(problems ...string) {
	for _, p := range problems {
		if k.Problem != "" {
			k.Problem += "; "
		}
		k.Problem += p
	}
}

// withImages adds the kernels in /boot that no menu offers.
func (t *files) withImages(kernels []Kernel) []Kernel {
	for _, prefix := range kernelPrefixes {
		for _, name := range t.glob("/boot/" + prefix + "*") {
			image := t.resolve(name)
			if isDebugCopy(image) || !t.isFile(image) || slices.ContainsFunc(kernels, func(k Kernel) bool { return k.Image == image }) {
				continue
			}
			k := Kernel{Image: image, Source: name}
			k.Version, k.Modules = t.version(k, "")
			k.Initrd = t.findInitrd(k)
			kernels = append(kernels, k)
		}
	}
	return kernels
}

// isDebugCopy tells the copy of a kernel that SUSE installs for debuggers.
func isDebugCopy(image string) bool {
	return strings.HasPrefix(path.Base(image), "vmlinux-") && strings.HasSuffix(image, ".gz")
}

// withModules are the versions that have modules.
func (t *files) withModules() []Kernel {
	var kernels []Kernel
	for _, dep := range t.glob(modulesDir + "/*/modules.dep") {
		dir := path.Dir(dep)
		kernels = append(kernels, Kernel{Version: path.Base(dir), Modules: dir, Problem: "its image was not found", Source: dep})
	}
	return kernels
}

// version tells a kernel's version and modules: by what its menu or its name
// says if there are modules of that version, else by what the image says.
func (t *files) version(k Kernel, told string) (version, modules string) {
	named := suffix(k.Image)
	for _, v := range []string{told, named, path.Base(path.Dir(k.Image))} {
		if dir := path.Join(modulesDir, v); safeName(v) && v != "boot" && t.exists(dir) {
			return v, dir
		}
	}
	said := ""
	if data, ok := t.read(k.Image, maxImage); ok {
		said = imageVersion(data)
	}
	if dir := path.Join(modulesDir, said); safeName(said) && t.exists(dir) {
		return said, dir
	}
	return cmp.Or(said, told, named), ""
}

// suffix is what follows the prefix in an image's name, or "".
func suffix(image string) string {
	for _, p := range kernelPrefixes {
		if v, ok := strings.CutPrefix(path.Base(image), p); ok {
			return v
		}
	}
	return ""
}

// imageVersion reads the version out of an x86 kernel image, or "".
//
// Source: Linux Documentation/arch/x86/boot.rst, kernel_version.
func imageVersion(data []byte) string {
	if len(data) < 0x210 || string(data[0x202:0x206]) != "HdrS" {
		return ""
	}
	at := int(binary.LittleEndian.Uint16(data[0x20e:])) + 0x200
	if at == 0x200 || at >= len(data) {
		return ""
	}
	text := data[at:min(len(data), at+256)]
	if i := bytes.IndexAny(text, " \x00"); i > 0 {
		return string(text[:i])
	}
	return ""
}

// initrdNames are what distributions call the initrd of a version or flavour.
var initrdNames = []string{"initrd.img-%s", "initramfs-%s.img", "initrd-%s", "initrd-%s.img", "initramfs-%s"}

// findInitrd finds the initrd of a kernel that no menu offers.
func (t *files) findInitrd(k Kernel) string {
	for _, v := range []string{suffix(k.Image), k.Version} {
		for _, name := range initrdNames {
			if at := "/boot/" + fmt.Sprintf(name, v); v != "" && t.exists(at) {
				return t.resolve(at)
			}
		}
	}
	return ""
}

// initrdsAtOnce is how many initrds are in memory at a time: one is taken apart, which
// takes longest, while the next one is read.
const initrdsAtOnce = 2

// allDrivers finds out of each kernel where the wanted drivers are. What cannot be
// read is noted with the kernel.
func (t *files) allDrivers(ctx context.Context, kernels []Kernel) {
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, initrdsAtOnce)
	for i := range kernels {
		room <- struct{}{}
		if ctx.Err() != nil {
			return
		}
		k, where := &kernels[i], map[string]Where{}
		if k.Modules == "" {
			k.note("its modules are not in " + modulesDir)
		} else {
			t.indexed(k, where)
		}
		data, name := t.initrdOf(k)
		all.Go(func() {
			k.inInitrd(data, name, where)
			k.drivers(where)
			<-room
		})
	}
}

// drivers keeps where the wanted ones are.
func (k *Kernel) drivers(where map[string]Where) {
	k.Drivers = map[string]Where{}
	for _, d := range WantedDrivers {
		k.Drivers[d] = Nowhere
		if w, ok := where[d]; ok {
			k.Drivers[d] = w
		}
	}
}

// indexed reads what is built in and what is in the modules' folder.
func (t *files) indexed(k *Kernel, where map[string]Where) {
	for _, list := range []struct {
		file string
		at   Where
	}{{"modules.dep", OnDisk}, {"modules.builtin", Builtin}} {
		data, err := t.ReadFile(path.Join(k.Modules, list.file), maxList)
		if err != nil {
			k.note(err.Error())
			continue
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			file, _, _ := strings.Cut(line, ":")
			where[moduleName(file)] = list.at
		}
	}
}

// moduleName is the kernel's name of a module file: no folder, no suffixes, and
// underscores.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(strings.TrimSpace(file)), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// initrdOf is a kernel's initrd and where it is: a file, or inside the image;
// nil when there is none.
func (t *files) initrdOf(k *Kernel) (data []byte, name string) {
	if k.Initrd == "" {
		return t.unifiedInitrd(k.Image), k.Image
	}
	data, err := t.ReadFile(k.Initrd, guest.MaxFile)
	if err != nil && (!absent(err) || k.Problem == "") { // a menu's problem says it already
		k.note(err.Error())
	}
	return data, k.Initrd
}

// inInitrd takes the initrd apart. What is built in stays so.
func (k *Kernel) inInitrd(data []byte, name string, where map[string]Where) {
	if data == nil {
		return
	}
	rd, err := initrd.Parse(data, initrd.Limits{})
	if err != nil {
		k.note(fmt.Sprintf("%s: %v", name, err))
		return
	}
	k.Generator = rd.Generator
	for _, nested := range rd.Nested {
		k.note(fmt.Sprintf("%s: %s inside is not read", name, nested))
	}
	for _, m := range rd.Modules(k.Version) {
		if where[m] != Builtin {
			where[m] = InInitrd
		}
	}
	for _, n := range rd.UnstableNames() {
		k.Unstable = append(k.Unstable, Found{n.Name, fmt.Sprintf("%s:%s:%d", name, n.Path, n.Line)})
	}
	if len(rd.Kernels) > 0 && !slices.Contains(rd.Kernels, k.Version) {
		k.note(fmt.Sprintf("%s: made for %s", name, strings.Join(rd.Kernels, ", ")))
	}
}
