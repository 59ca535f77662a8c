package pipeline

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// spare is left to the host when a guest is tested, in bytes.
const spare = 512 << 20

// affordable is the memory for a machine that should have want bytes, on this
// host as it is now; zero where the host can give it all. The report names the
// difference.
func affordable(want int64) (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	available, err := memAvailable(f)
	if err != nil {
		return 0, err
	}
	return share(want, available), nil
}

// share is what of the wanted memory can be given, in whole MiB; zero is all.
func share(want, available int64) int64 {
	if want+spare <= available {
		return 0
	}
	const least = 256 << 20 // a smaller machine would fail for reasons of its own
	return max(least, (available-spare)>>20<<20)
}

// memAvailable is the kernel's estimate of what programs can have, in bytes.
// Source: proc_meminfo(5), MemAvailable.
func memAvailable(r io.Reader) (int64, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			var kB int64
			_, err := fmt.Sscanf(rest, "%d kB", &kB)
			return kB << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo does not say what is available: %w", io.ErrUnexpectedEOF)
}
