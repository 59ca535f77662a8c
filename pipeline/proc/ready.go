package proc

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
		out, err := Run(ctx, name, "--version")
		if err != nil {
			return err
		}
		if err := p.newEnough(string(out)); err != nil {
			return err
		}
	}
	return nil
}

// versionText matches "QEMU emulator version 7.2.22 (…)" and "/usr/bin/qemu-nbd 7.2.22".
var versionText = regexp.MustCompile(`^\S+(?: emulator)?(?: version)? (\d+(?:\.\d+)*)\b`)

// newEnough compares the version in what a program says of itself.
func (p Program) newEnough(said string) error {
	line, _, _ := strings.Cut(said, "\n")
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
