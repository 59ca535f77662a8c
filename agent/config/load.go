package config

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"hyper2kvm/agent/layers"
	"hyper2kvm/agent/spec"
)

// Where settings are looked for if nobody says. Neither must be there.
const (
	File   = "/etc/hyper2kvm/config.yaml"
	Folder = "/etc/hyper2kvm/config.d"
)

// maxFile bounds a file of settings, bytes.
const maxFile = 1 << 20

//go:embed settings.schema.json
var ours []byte

// Schema is the JSON Schema 2020-12 of the settings.
func Schema() ([]byte, error) { return spec.Into(ours) }

var compiled = sync.OnceValues(func() (*layers.Schema, error) {
	text, err := Schema()
	if err != nil {
		return nil, err
	}
	return layers.CompileSchema(text)
})

// Load reads settings from files, each over the one before; a folder stands for the
// *.yaml in it, in the order of their names. Without any they are File and Folder,
// where they are there. The error wraps ErrSettings, and tells of each fault the file,
// the line, the field, and what to write.
func Load(files ...string) (*Settings, error) {
	if len(files) == 0 {
		files = present(File, Folder)
	}
	this, err := thisHost()
	if err != nil {
		return nil, err
	}
	s, err := load(files, this)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	return s, nil
}

// present are those of the names that are there.
func present(names ...string) (found []string) {
	for _, name := range names {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			found = append(found, name)
		}
	}
	return found
}

func load(files []string, on host) (*Settings, error) {
	schema, err := compiled()
	if err != nil {
		return nil, err
	}
	said, err := merged(files)
	if err != nil {
		return nil, err
	}
	if err := schema.Check(said).Err(); err != nil {
		return nil, err
	}
	s := &Settings{values: on.fill(schema.Fill(withHub(said)))}
	data, err := json.Marshal(s.values.Plain())
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(s); err != nil {
		return nil, err
	}
	return s, s.check().Err()
}

// withHub is the settings with a hub in them, if that is their shape: all that it needs
// has defaults.
func withHub(said *layers.Value) *layers.Value {
	engine := said.At("engine")
	shape := engine.Fields["shape"]
	if shape == nil || shape.Scalar != HubShape || engine.Fields["hub"] != nil {
		return said
	}
	return said.With("engine", engine.With("hub", layers.Over(nil, nil)))
}

// merged are all files over one another.
func merged(files []string) (*layers.Value, error) {
	said := layers.Over(nil, nil)
	for _, name := range files {
		parts, err := expand(name)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			layer, err := read(part)
			if err != nil {
				return nil, err
			}
			said = layers.Over(said, layer)
		}
	}
	return said, nil
}

// expand is a file, or those of a folder.
func expand(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	entries, err := os.ReadDir(name) // by name
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".yaml" {
			parts = append(parts, filepath.Join(name, e.Name()))
		}
	}
	return parts, nil
}

// read reads a file that not everybody can write: its settings say what runs as root.
func read(name string) (*layers.Value, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("everybody can write to %s: run chmod o-w %[1]s", name)
	}
	return layers.ReadFile(name, maxFile)
}
