package firstboot

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"hyper2kvm/agent/layers"
)

// SeedFile is the file of a seed volume that says settings.
const SeedFile = "hyper2kvm.yaml"

// Bounds of a seed volume's files, bytes.
const (
	mostSeed = 256 << 10
	mostFile = mostText
)

// opener reads a file of a seed volume, of a bounded size; fs.ErrNotExist if it is not
// there.
type opener func(name string, most int64) ([]byte, error)

var errTooLarge = errors.New("is too large")

// readSeed reads hyper2kvm.yaml and the files that it names.
func readSeed(name string, open opener) *source {
	s := newSource(name)
	text, err := open(SeedFile, mostSeed)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.wrong("there is no %s on it: make it with hyper2kvm seed", SeedFile)
	case errors.Is(err, errTooLarge):
		s.wrong("%s has more than %d bytes: shorten it, or put texts into files of their own", SeedFile, mostSeed)
	case err != nil:
		s.wrong("%s: %v", SeedFile, err)
	default:
		s.yaml(SeedFile, text, open)
	}
	return s
}

// yaml takes what a YAML file says. Open is nil where it can name no files.
func (s *source) yaml(name string, text []byte, open opener) {
	said, err := layers.Read(name, text)
	if err != nil {
		s.wrong("%v", err)
		return
	}
	for _, field := range slices.Sorted(maps.Keys(said.Fields)) {
		k, ok := keyNamed(field)
		if !ok {
			s.wrong("%s: %s: %s", said.Fields[field].Origin, quotedName(field), unknown(field))
			continue
		}
		value, err := valueOf(k, said.Fields[field], open)
		if err != nil {
			s.wrong("%s: %s: %v", said.Fields[field].Origin, field, err)
			continue
		}
		s.set(k, value)
	}
}

// valueOf is a key's value: a scalar, several of a list, or a file's content.
func valueOf(k key, v *layers.Value, open opener) (string, error) {
	switch {
	case v.List != nil:
		return joined(k, v)
	case k.nested && v.Fields != nil && v.Fields["file"] == nil:
		return v.Dump()
	case v.Fields != nil && (open == nil || k.file == ""):
		return "", errors.New("has fields: write its value")
	case v.Fields != nil:
		return fileOf(v, open)
	case v.Scalar == nil:
		return "", nil
	}
	return fmt.Sprint(v.Scalar), nil
}

func joined(k key, v *layers.Value) (string, error) {
	if !k.list && !k.lines {
		return "", errors.New("is a list: write one value")
	}
	var list []string
	for _, item := range v.List {
		if item.List != nil || item.Fields != nil || item.Scalar == nil {
			return "", errors.New("is a list of something else than values: write [value, value]")
		}
		list = append(list, fmt.Sprint(item.Scalar))
	}
	return strings.Join(list, "\n"), nil
}

// besides are names of files that lie beside hyper2kvm.yaml.
var besides = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func fileOf(v *layers.Value, open opener) (string, error) {
	f := v.Fields["file"]
	if len(v.Fields) != 1 || f == nil {
		return "", errors.New("has fields: write the value itself, or {file: NAME}")
	}
	name, ok := f.Scalar.(string)
	if !ok || !besides.MatchString(name) {
		return "", fmt.Errorf("names no file beside %s: write {file: NAME} with a name of letters, digits, hyphens and dots, 64 at most", SeedFile)
	}
	text, err := open(name, mostFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no file %s beside %s", name, SeedFile)
	case errors.Is(err, errTooLarge):
		return "", fmt.Errorf("the file %s has more than %d bytes", name, mostFile)
	case err != nil:
		return "", fmt.Errorf("the file %s: %w", name, err)
	case len(strings.TrimSpace(string(text))) == 0:
		return "", fmt.Errorf("the file %s is empty", name)
	}
	return string(text), nil
}
