package firstboot

import (
	"slices"
	"strings"
)

// kernelPrefix begins the parameters that are ours.
const kernelPrefix = "hyper2kvm."

// beforeUs are parameters of ours that the initramfs reads.
var beforeUs = []string{"disk", "wait", "state", "toram", "factory-reset", "trial"}

// readKernel reads a kernel command line. Everybody on the appliance can read it, so no
// secret is taken from there.
func readKernel(line string) *source {
	s := newSource(fromKernel)
	for _, p := range parameters(line) {
		name, ours := strings.CutPrefix(p, kernelPrefix)
		name, value, _ := strings.Cut(name, "=")
		if !ours || slices.Contains(beforeUs, name) {
			continue
		}
		if k, ok := keyNamed(name); ok && k.secret {
			s.wrong("%s: everybody on the appliance can read it there: put it into a seed volume, and make another one", name)
			continue
		}
		s.say(name, value)
	}
	return s
}

// parameters are those of a command line, without the quotes that hold blanks together.
//
// Source: Linux lib/cmdline.c, next_arg.
func parameters(line string) (list []string) {
	var word strings.Builder
	quoted := false
	for _, r := range line + " " {
		switch {
		case r == '"':
			quoted = !quoted
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			if word.Len() > 0 {
				list = append(list, word.String())
			}
			word.Reset()
		default:
			word.WriteRune(r)
		}
	}
	return list
}
