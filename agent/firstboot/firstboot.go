package firstboot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Boot is a machine's. Its files, devices and kernel are looked for below Root.
type Boot struct {
	Root      string
	GuestInfo GuestInfo // nil on a machine that is not VMware's
}

// Run reads all sources, makes the files that they ask for, and leaves the report. What
// is wrong with what somebody says is in the report alone; an error is of this machine,
// such as a full disk, and is in the report too as far as that can be written.
func (b Boot) Run(ctx context.Context) (Report, error) {
	r := Report{Made: time.Now().UTC(), Sources: []Source{}, Applied: []Applied{}, Changed: []string{}, Notes: []string{}, Problems: []string{}}
	if err := os.MkdirAll(filepath.Join(b.Root, filepath.Dir(ReportPath)), 0o755); err != nil {
		return r, err
	}
	sources := b.sources(ctx)
	said, notes := over(sources)
	r.Notes = append(r.Notes, notes...)
	t := settle(said, cards(b.Root))
	err := t.agent(b.Root)
	r.tell(sources, t)
	changed, failed := apply(b.Root, wanted(&t.Settings, t.card))
	r.Changed = append(r.Changed, changed...)
	if err = errors.Join(err, failed, b.name(), b.keyboard(ctx, &t.Settings, changed)); err != nil {
		r.Problems = append(r.Problems, "not all could be done: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return r, errors.Join(err, r.write(b.Root))
}

// sources are all that say something, the one that counts most last.
func (b Boot) sources(ctx context.Context) []*source {
	list := fromVMware(ctx, b.GuestInfo)
	if s := fromVolumes(b.Root); s != nil {
		list = append(list, s)
	}
	const most = 64 << 10 // a kernel command line has 2 KiB
	line, err := readSome(filepath.Join(b.Root, "proc/cmdline"), most)
	kernel := readKernel(string(line))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		kernel.wrong("%v", err)
	}
	return append(list, kernel, readKept(b.Root))
}

// name is the running system's, which has read its file before it was written.
func (b Boot) name() error {
	text, err := os.ReadFile(filepath.Join(b.Root, hostnamePath))
	if err != nil || filepath.Clean(b.Root) != "/" {
		return err
	}
	return unix.Sethostname([]byte(strings.TrimSpace(string(text))))
}
