package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"hyper2kvm/pipeline/proc"
)

// Hook is a program of VMware's that an operator may have here. None is needed.
type Hook struct {
	Name    string `json:"name"`
	Path    string `json:"path,omitempty"`
	Version string `json:"version,omitempty"`
	Missing string `json:"missing,omitempty"` // why it cannot be used, for people; empty: it can
}

// hookWait is how long a program may take to tell its version.
const hookWait = 20 * time.Second

// hooks are the programs, where they are besides in PATH, and how they tell their version.
//
// Source: govmomi, cli/version/command.go; OVF Tool User's Guide, "--version", and its
// installer's folder on Linux.
var hooks = []struct {
	name    string
	place   string
	version string // argument
	told    *regexp.Regexp
	get     string // how one comes by it
}{
	{"govc", "", "version", regexp.MustCompile(`(?m)^govc v?([0-9][0-9.]*[0-9])`), "put it into PATH: github.com/vmware/govmomi has it"},
	{"ovftool", "/usr/lib/vmware-ovftool/ovftool", "--version", regexp.MustCompile(`(?m)^VMware ovftool ([0-9][0-9.]*[0-9])`), "install VMware's OVF Tool, or put it into PATH"},
}

// Hooks tells which of the programs are here. at names the file of one by its name, in
// place of what is found.
func Hooks(ctx context.Context, at map[string]string) (all []Hook) {
	for i, h := range hooks {
		found := Hook{Name: h.name}
		var err error
		if found.Path, err = findHook(h.name, at[h.name], h.place); err == nil {
			found.Version, err = hookVersion(ctx, i, found.Path)
		}
		switch {
		case errors.Is(err, proc.ErrMissing):
			found.Missing = h.name + " is not here: " + h.get
		case err != nil:
			found.Missing = err.Error()
		}
		all = append(all, found)
	}
	return all
}

// findHook is a program's file: the one that is named, else that in PATH, else the one
// that its installer makes.
func findHook(name, named, place string) (string, error) {
	if named != "" {
		return named, nil
	}
	path, err := proc.Look(name)
	if err == nil || place == "" {
		return path, err
	}
	if _, there := os.Stat(place); there == nil {
		return place, nil
	}
	return "", err
}

// hookVersion asks a program.
func hookVersion(ctx context.Context, i int, path string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, hookWait, fmt.Errorf("it did not tell its version within %v", hookWait))
	defer cancel()
	out, err := proc.Command{Name: hooks[i].name, Path: path, Args: []string{hooks[i].version}}.Run(ctx)
	if err != nil {
		return "", err
	}
	return versionIn(hooks[i].told, out)
}

// versionIn is the version in what a program says of itself.
func versionIn(told *regexp.Regexp, said []byte) (string, error) {
	at := told.FindSubmatch(said)
	if at == nil {
		return "", fmt.Errorf("its version cannot be told from %.100q", said)
	}
	return string(at[1]), nil
}
