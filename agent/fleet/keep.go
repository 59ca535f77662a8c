package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"hyper2kvm/pipeline/durable"
)

// maxKept bounds a file of the fleet's, in bytes.
const maxKept = 1 << 20

func readKept(path string, v any) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s can be read by others (mode %v): chmod it to 0600, and join the fleet anew if somebody may have", path, info.Mode())
	case info.Size() > maxKept:
		return fmt.Errorf("%s has more than %d bytes", path, maxKept)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeKept puts a value into a file with mode 0600, whole or not at all.
func writeKept(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.Write(path, append(text, '\n'))
}
