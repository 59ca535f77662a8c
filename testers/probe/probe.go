// Package probe puts a program into the throwaway overlay of a guest under
// proof and listens to what it reports from inside.
//
// Probe: the program, its unit and its key, as files to write. Port: the host's
// end of the virtio-serial port that the probe reports over. What they say to
// each other is in package wire.
package probe

import (
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"hyper2kvm/testers/probe/wire"
)

//go:embed bin
var bin embed.FS

// ErrNotBuilt is an agent that was built before the probe's program was.
var ErrNotBuilt = errors.New("the agent was built without the probe's program: run make")

// folder is where the probe lives in the guest, together with its key.
const folder = "/usr/lib/hyper2kvm-probe"

const unitName = "hyper2kvm-probe.service"

// unit starts the probe with the first units and leaves it running whatever
// happens to the others, so that it can tell why a boot hangs. It waits for
// nothing and nothing waits for it: when the network is up is its own to see.
//
// Source: systemd.unit(5), DefaultDependencies and IgnoreOnIsolate.
const unit = `[Unit]
Description=Boot proof of hyper2kvm
DefaultDependencies=no
IgnoreOnIsolate=yes
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=simple
ExecStart=` + folder + `/probe ` + folder + `/config.json
Restart=on-failure
RestartSec=2
StandardOutput=journal
StandardError=journal
`

// targets start the probe; the last two are where a broken boot ends.
var targets = []string{"multi-user.target", "emergency.target", "rescue.target"}

// File is one thing to write into the overlay; parents come before children.
type File struct {
	Path   string
	Mode   fs.FileMode // with the type: a folder, a regular file or a symbolic link
	Data   []byte      // of a regular file
	LinkTo string      // of a symbolic link
	Label  string      // security.selinux where the guest uses it
}

// NewKey is a key for one boot session.
func NewKey() ([]byte, error) {
	key := make([]byte, wire.KeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("probe's key: %w", err)
	}
	return key, nil
}

// Binary is the probe's program, static, for x86-64. ErrNotBuilt if missing.
func Binary() ([]byte, error) {
	b, err := bin.ReadFile("bin/probe-amd64")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	}
	return b, err
}

// Files is all that makes a guest with systemd run the probe. A folder that
// exists already is left as it is.
func Files(key []byte) ([]File, error) {
	if len(key) != wire.KeySize {
		return nil, fmt.Errorf("probe's key has %d bytes, not %d", len(key), wire.KeySize)
	}
	program, err := Binary()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(wire.Config{Key: key})
	if err != nil {
		return nil, fmt.Errorf("probe's configuration: %w", err)
	}
	const units = "/etc/systemd/system"
	files := []File{
		{Path: folder, Mode: fs.ModeDir | 0o755, Label: label("lib_t")},
		{Path: folder + "/probe", Mode: 0o755, Data: program, Label: label("bin_t")},
		{Path: folder + "/config.json", Mode: 0o600, Data: config, Label: label("lib_t")},
		{Path: units + "/" + unitName, Mode: 0o644, Data: []byte(unit), Label: label("systemd_unit_file_t")},
	}
	for _, target := range targets {
		wants := units + "/" + target + ".wants"
		files = append(files,
			File{Path: wants, Mode: fs.ModeDir | 0o755, Label: label("systemd_unit_file_t")},
			File{Path: wants + "/" + unitName, Mode: fs.ModeSymlink | 0o777, LinkTo: units + "/" + unitName, Label: label("systemd_unit_file_t")})
	}
	return files, nil
}

// label is the SELinux context of a system file; in the targeted policy a
// bin_t that systemd starts runs unconfined.
func label(kind string) string { return "system_u:object_r:" + kind + ":s0" }
