package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrOld is a program of a version that lacks what is asked of it.
var ErrOld = errors.New("program is too old")

// Ready tells whether programs are there in versions that will do, before work
// is begun that would fail half way: ErrMissing or ErrOld, with what to install.
func Ready(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := Look(name); err != nil {
			return err
		}
		p := Programs[slices.IndexFunc(Programs, func(p Program) bool { return p.Name == name })]
		if p.Least == "" {
			continue
		}
		said, err := Version(ctx, name)
		if err != nil {
			return err
		}
		if err := p.newEnough(said); err != nil {
			return err
		}
	}
	return nil
}

// versions are what programs have said, by their files as they were then.
var versions sync.Map // of programFile to string

type programFile struct {
	path    string
	changed time.Time
	size    int64
}

// Version is the first line of what a program says of itself: it is asked once, unless it
// is replaced.
func Version(ctx context.Context, name string) (string, error) {
	path, err := Look(name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	file := programFile{path, info.ModTime(), info.Size()}
	if said, known := versions.Load(file); known {
		return said.(string), nil
	}
	out, err := Run(ctx, name, "--version")
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(out), "\n")
	versions.Store(file, line)
	return line, nil
}

// versionText matches "QEMU emulator version 7.2.22 (…)" and "/usr/bin/qemu-nbd 7.2.22".
var versionText = regexp.MustCompile(`^\S+(?: emulator)?(?: version)? (\d+(?:\.\d+)*)\b`)

// newEnough compares the version in the first line of what a program says of itself.
func (p Program) newEnough(line string) error {
	at := versionText.FindStringSubmatch(line)
	if at == nil {
		return fmt.Errorf("%s: %w: its version cannot be told from %q: install version %s or newer of the package %s", p.Name, ErrOld, line, p.Least, p.Package)
	}
	if older(at[1], p.Least) {
		return fmt.Errorf("%s: %w: it is version %s: install version %s or newer of the package %s", p.Name, ErrOld, at[1], p.Least, p.Package)
	}
	return nil
}

// older compares versions of numbers and dots.
func older(a, b string) bool {
	return slices.Compare(numbers(a), numbers(b)) < 0
}

func numbers(version string) []int {
	var all []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil { // more digits than any version has
			n = 1 << 30
		}
		all = append(all, n)
	}
	return all
}
