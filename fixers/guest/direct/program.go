package direct

import (
	"errors"
	"io/fs"
	"os"
	"sync"

	"hyper2kvm/pipeline/proc"
)

// ErrNotBuilt is a program that was built before the engine's own processes were.
var ErrNotBuilt = errors.New("this program was built without the direct engine's processes: run make build")

// program is what the engine's processes run: ./parts, in memory.
var program = sync.OnceValues(func() (*os.File, error) {
	f, err := binaries.Open("bin/parts-amd64")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return proc.InMemory("hyper2kvm-parts", f)
})
