package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"hyper2kvm/pipeline/durable"
	"hyper2kvm/pipeline/proc"
)

// ErrSeed is a seed volume that cannot be made as it was asked for.
var ErrSeed = errors.New("cannot make this seed volume")

// Seed is the content of a seed volume: files by their names.
type Seed map[string][]byte

// NewSeed is a seed that says values of keys, each as it is written in one line or as it
// stands in a file. It is read as the appliance will read it; the error, which wraps
// ErrSeed, is the first problem that it would tell. Which network cards the appliance
// has, and what other settings are there, it cannot know.
func NewSeed(values map[string]string) (Seed, error) {
	maps.DeleteFunc(values, func(_, text string) bool { return text == "" })
	if len(values) == 0 {
		return nil, fmt.Errorf("%w: it would say nothing: give at least one setting", ErrSeed)
	}
	said, files := map[string]any{}, Seed{}
	for name, text := range values {
		k, ok := keyNamed(name)
		if !ok {
			return nil, fmt.Errorf("%w: %s: %s", ErrSeed, quotedName(name), unknown(name))
		}
		said[name] = text
		if k.file != "" {
			said[name], files[k.file] = map[string]string{"file": k.file}, []byte(text)
		}
	}
	text, err := yaml.Dump(said)
	if err != nil {
		return nil, err
	}
	files[SeedFile] = append([]byte("# hyper2kvm: what an appliance reads at its first boot\n"), text...)
	return files, files.check()
}

// open reads a file as an opener does.
func (s Seed) open(name string, most int64) ([]byte, error) {
	text, ok := s[name]
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case int64(len(text)) > most:
		return nil, errTooLarge
	}
	return text, nil
}

// check is the first problem of a boot with this seed alone.
func (s Seed) check() (err error) {
	root, err := proc.PrivateDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	if err := os.MkdirAll(filepath.Join(root, filepath.Dir(ReportPath)), 0o700); err != nil {
		return err
	}
	from := readSeed(fromSeed, s.open)
	said, _ := over([]*source{from})
	t := settle(said, nil)
	if err := t.agent(root); err != nil {
		return err
	}
	for _, problem := range slices.Concat(from.problems, t.problems) {
		return fmt.Errorf("%w: %s", ErrSeed, strings.TrimPrefix(problem, fromSeed+": "))
	}
	return nil
}

// The formats of a seed volume.
const (
	ISO = "iso"
	FAT = "fat"
)

// Write makes an image of the seed in a file, which is there whole or not at all and is
// its owner's alone. One that is there already is replaced with force.
func (s Seed) Write(ctx context.Context, path, format string, force bool) (err error) {
	writer := map[string]func(*os.File, Seed) error{ISO: writeISO, FAT: writeFAT}[format]
	if writer == nil {
		return fmt.Errorf("%w: there is no format %q: want iso or fat", ErrSeed, format)
	}
	if err := vacant(path, force); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), partPrefix+"*")
	if err != nil {
		return err
	}
	err = errors.Join(writer(f, s), f.Sync(), f.Close(), context.Cause(ctx))
	if err == nil {
		err = durable.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// vacant tells why a file may not be written.
func vacant(path string, force bool) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is no file: write the image to one, and copy it from there", ErrSeed, path)
	case !force:
		return fmt.Errorf("%w: %s is there already: give --force to replace it, or another name", ErrSeed, path)
	}
	return nil
}
