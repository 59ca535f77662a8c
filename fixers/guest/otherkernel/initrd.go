package otherkernel

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"hyper2kvm/pipeline/proc"
)

// Names in the initramfs.
const (
	initName    = "/init"
	modulesName = "/modules" // the modules' names in the order to load them
	testsName   = "/tests"   // the arguments of the test binary
	envName     = "/env"     // its environment
)

// libraryFolders are where the dynamic linker looks on Debian.
var libraryFolders = []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"}

// writeInitrd writes the initramfs of a machine. It is not compressed: nobody but
// QEMU reads it.
func (m Machine) writeInitrd(ctx context.Context, name, kernel string) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	a := archive{w: cpio.Newc.Writer(f), has: map[string]bool{}}
	a.record(cpio.CharDev("dev/console", 0o600, 5, 1)) // the kernel gives init no other output
	for link, target := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"} {
		a.record(cpio.Symlink(link, target))
	}
	for _, dir := range []string{"/proc", "/sys", "/tmp", "/run", "/etc"} {
		a.folder(dir)
	}
	a.program("/proc/self/exe", initName)
	for _, program := range m.Programs {
		file, err := proc.Look(program)
		if err != nil {
			return err
		}
		a.program(file, file)
	}
	for _, file := range m.Files {
		a.file(file, file)
	}
	modules, err := m.modules(ctx, release(kernel))
	if err != nil {
		return err
	}
	for _, module := range modules {
		a.file(module, module)
	}
	for file, data := range m.Data {
		a.text(file, string(data))
	}
	a.text(modulesName, strings.Join(modules, "\n"))
	a.text(testsName, strings.Join([]string{"tests", "-test.v", "-test.run=^(" + strings.Join(m.Tests, "|") + ")$", "-test.skip=" + m.Skip}, "\n"))
	a.text(envName, strings.Join(append(m.Env, "PATH=/usr/sbin:/usr/bin", "HOME=/tmp", "TMPDIR=/tmp", "NEED_TOOLS=1"), "\n"))
	return errors.Join(a.err, cpio.WriteTrailer(a.w))
}

// modules are the files of the modules and of all that they depend on, in the
// order to load them.
func (m Machine) modules(ctx context.Context, version string) (files []string, err error) {
	for _, module := range m.Modules {
		out, err := proc.Run(ctx, "modprobe", "--show-depends", "--set-version", version, module)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(out)) {
			file, isFile := strings.CutPrefix(strings.TrimSpace(line), "insmod ")
			file, _, _ = strings.Cut(file, " ") // the options are this machine's
			if isFile && !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// archive is a cpio archive. Its first error stays.
type archive struct {
	w   cpio.RecordWriter
	has map[string]bool // names that are in it
	err error
}

func (a *archive) record(r cpio.Record) {
	if a.err == nil && !a.has[r.Name] {
		a.has[r.Name] = true
		a.err = a.w.WriteRecord(r)
	}
}

// folder adds a folder and those that it is in, links resolved.
func (a *archive) folder(dir string) {
	if dir == "/" || dir == "." || a.has[strings.TrimPrefix(dir, "/")] {
		return
	}
	a.folder(path.Dir(dir))
	a.record(cpio.Directory(strings.TrimPrefix(dir, "/"), 0o755))
}

func (a *archive) text(name, content string) {
	a.folder(path.Dir(name))
	a.record(cpio.StaticFile(strings.TrimPrefix(name, "/"), content, 0o755))
}

// file adds a file of this machine. The kernel's modules and Debian's programs may
// be named through /lib and /sbin, which are links.
func (a *archive) file(from, name string) {
	data, err := os.ReadFile(from)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(name, dir) {
			name = "/usr" + name
		}
	}
	a.text(name, string(data))
}

// program adds a program, its dynamic linker and the libraries that it needs.
func (a *archive) program(from, name string) {
	if a.has[strings.TrimPrefix(name, "/")] {
		return
	}
	a.file(from, name)
	needed, err := needs(from)
	a.err = errors.Join(a.err, err)
	for _, library := range needed {
		a.program(library, library)
	}
}

// needs are the files that the kernel and the dynamic linker open for a program.
func needs(program string) (files []string, err error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	defer f.Close()
	if s := f.Section(".interp"); s != nil {
		linker, err := s.Data()
		if err != nil {
			return nil, err
		}
		files = append(files, strings.TrimRight(string(linker), "\x00"))
	}
	names, err := f.ImportedLibraries()
	for _, name := range names {
		file, found := library(name)
		if !found {
			return nil, fmt.Errorf("%s needs %s: %w", program, name, fs.ErrNotExist)
		}
		files = append(files, file)
	}
	return files, err
}

func library(name string) (file string, found bool) {
	for _, dir := range libraryFolders {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err == nil {
			return file, true
		}
	}
	return "", false
}
