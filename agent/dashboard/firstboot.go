package dashboard

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
)

// mostReport bounds what first boot tells, bytes.
const mostReport = 1 << 20

// firstBoot is what was wrong with the settings that first boot has read. A machine that
// is no appliance has no first boot.
func firstBoot(path string) []string {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []string{"what first boot did is not known: " + err.Error()}
	}
	defer f.Close()
	var report struct{ Problems []string }
	if err := json.NewDecoder(io.LimitReader(f, mostReport)).Decode(&report); err != nil {
		return []string{"what first boot did is not known: " + path + ": " + err.Error()}
	}
	return report.Problems
}
