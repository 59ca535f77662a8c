package client

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hyper2kvm/agent/layers"
)

// NamedFile is where people write down appliances, below their folder of settings.
const NamedFile = "hyper2kvm/appliances.yaml"

// maxNamed bounds that file, bytes.
const maxNamed = 1 << 20

// named is an appliance that is written down. Relative paths are below the file's folder.
type named struct {
	Address     string `json:"address"`
	Fingerprint string `json:"fingerprint"`
	CA          string `json:"ca"`
	TokenFile   string `json:"tokenFile"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// Named is an appliance's address, and how to reach it, by its name in the file of
// appliances; an address stands for itself. What is said in o holds instead of what the
// file says.
func Named(name string, o Options) (string, Options, error) {
	if strings.Contains(name, ":") {
		return name, o, nil
	}
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", o, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	n, err := find(filepath.Join(folder, NamedFile), name)
	if err != nil {
		return "", o, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if o.Fingerprint == "" && o.CA == "" {
		o.Fingerprint, o.CA = n.Fingerprint, n.CA
	}
	o.TokenFile = cmp.Or(o.TokenFile, n.TokenFile)
	o.Certificate, o.Key = cmp.Or(o.Certificate, n.Certificate), cmp.Or(o.Key, n.Key)
	return n.Address, o, nil
}

func find(file, name string) (n named, err error) {
	all, err := layers.ReadFile(file, maxNamed)
	if errors.Is(err, fs.ErrNotExist) {
		return n, fmt.Errorf("%q is no address (https://HOST:8443, unix:PATH, vsock:CID:PORT), and no name in %s, which is not there", name, file)
	}
	if err != nil {
		return n, err
	}
	one, ok := all.Fields[name]
	if !ok {
		return n, fmt.Errorf("%s has no appliance %q; it has %s", file, name, strings.Join(slices.Sorted(maps.Keys(all.Fields)), ", "))
	}
	text, err := json.Marshal(one.Plain())
	if err != nil {
		return n, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&n); err != nil {
		return n, fmt.Errorf("%s: %w: write address, fingerprint, ca, tokenFile, certificate, key", one.Origin, err)
	}
	for _, path := range []*string{&n.CA, &n.TokenFile, &n.Certificate, &n.Key} {
		if *path != "" && !filepath.IsAbs(*path) && !strings.HasPrefix(*path, "credential:") {
			*path = filepath.Join(filepath.Dir(file), *path)
		}
	}
	return n, nil
}
