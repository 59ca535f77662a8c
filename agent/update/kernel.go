package update

import (
	"bytes"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// kernel is what an image holds.
//
// Source: UAPI group, Unified Kernel Image specification: a section .profile begins a
// profile, which takes the sections before the first one but for those that it has itself.
type kernel struct {
	version  string // of the system that it belongs to
	rootHash string
	entries  []entry // the first one is what is started unless somebody chooses
	linux    *pe.Section
	initrd   *pe.Section
	file     *os.File
}

// entry is a way to start an image. The plain one has no ID.
type entry struct{ id, title, commandLine string }

// trialID is the entry by which systemd-boot starts what is on trial: see
// image/profiles/05-trial.conf.
const trialID = "trial"

// mostText is how much is read of a section that people can read, in bytes.
const mostText = 64 << 10

// openKernel reads an image. Whoever opens it closes it.
func openKernel(path string) (k *kernel, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s is no kernel image of the appliance's: %w", f.Name(), err), f.Close())
		}
	}()
	p, err := pe.NewFile(f)
	if err != nil {
		return nil, err
	}
	k = &kernel{file: f}
	if err := k.read(p.Sections); err != nil {
		return nil, err
	}
	return k, k.check()
}

func (k *kernel) close() error { return k.file.Close() }

func (k *kernel) read(sections []*pe.Section) error {
	k.entries = []entry{{}}
	profiles := 0
	for _, s := range sections {
		last := &k.entries[len(k.entries)-1]
		switch s.Name {
		case ".linux":
			k.linux = s
		case ".initrd":
			k.initrd = s
		case ".osrel":
			k.version = value(text(s), "IMAGE_VERSION")
		case ".cmdline":
			last.commandLine = strings.Join(strings.Fields(text(s)), " ")
		case ".profile":
			if profiles++; value(text(s), "ID") == "main" && profiles == 1 {
				continue // it is what is before it
			}
			k.entries = append(k.entries, entry{id: value(text(s), "ID"), title: value(text(s), "TITLE"), commandLine: k.entries[0].commandLine})
		}
	}
	for _, word := range strings.Fields(k.entries[0].commandLine) {
		if hash, is := strings.CutPrefix(word, "roothash="); is {
			k.rootHash = hash
		}
	}
	return nil
}

func (k *kernel) check() error {
	switch {
	case k.linux == nil || k.initrd == nil:
		return errors.New("it has no kernel, or no initramfs")
	case !aVersion.MatchString(k.version):
		return fmt.Errorf("its version is %q", k.version)
	case len(k.rootHash) != 64:
		return fmt.Errorf("its root's hash is %q", k.rootHash)
	}
	return nil
}

// content is a section's, without what only fills it up.
func content(s *pe.Section) io.Reader {
	return io.LimitReader(s.Open(), int64(min(s.VirtualSize, s.Size)))
}

func text(s *pe.Section) string {
	b, err := io.ReadAll(io.LimitReader(content(s), mostText))
	if err != nil {
		return "" // what is missing then is told of
	}
	return string(bytes.TrimRight(b, "\x00"))
}

// value is one of a file such as os-release.
func value(text, name string) string {
	for line := range strings.Lines(text) {
		if v, is := strings.CutPrefix(strings.TrimSpace(line), name+"="); is {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}
