package firstboot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// keptPath is what was set on the appliance's console, in the state that survives.
const keptPath = "var/lib/hyper2kvm/first-boot.yaml"

// ErrValue is a value that cannot be used.
var ErrValue = errors.New("cannot use this value")

// Keep keeps values for keys, by their names, as they were set on the appliance's
// console; they lie over all other sources from the next first boot on. An empty value
// is none. The error, which wraps ErrValue where a value is wrong, says what to write.
func Keep(root string, values map[string]string) error {
	values = maps.Clone(values)
	maps.DeleteFunc(values, func(_, text string) bool { return text == "" })
	if err := Check(root, values); err != nil {
		return err
	}
	path := filepath.Join(root, keptPath)
	if len(values) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := yaml.Dump(values)
	if err != nil {
		return err
	}
	_, err = file{keptPath, 0o600, string(text)}.write(root)
	return err
}

// Check tells what is wrong with values for keys, on a machine whose cards are below the
// root folder.
func Check(root string, values map[string]string) error {
	s := newSource(fromConsole)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		s.say(name, values[name])
	}
	return problemsOf(s, cards(root))
}

// problemsOf is the first problem of a source that stands alone.
func problemsOf(s *source, all []card) error {
	said, _ := over([]*source{s})
	problems := append(s.problems, settle(said, all).problems...)
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrValue, strings.TrimPrefix(problems[0], s.name+": "))
}

// Kept are the values that Keep has kept.
func Kept(root string) map[string]string { return readKept(root).said }

func readKept(root string) *source {
	s := newSource(fromConsole)
	text, err := readSome(filepath.Join(root, keptPath), mostSeed)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		s.wrong("%v", err)
	default:
		s.yaml(filepath.Base(keptPath), text, nil)
	}
	return s
}

// readSome reads a file of a bounded size.
func readSome(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", filepath.Base(path), most)
	}
	return text, err
}
