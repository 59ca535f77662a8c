// Package enginetest has what tests give to an engine.
package enginetest

import (
	"io"
	"strings"
	"time"

	"hyper2kvm/agent/engine"
)

// File is a file of a text that was made now.
func File(path, text string) engine.File {
	return engine.File{Path: path, Size: int64(len(text)), Changed: time.Now(), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}
