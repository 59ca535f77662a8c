// Package watchfolder has guests migrated that are put into a folder.
//
// Candidate: a guest as it lies in the folder: a VMX file, or a disk where there is
// none. It is taken when nothing beside it has changed for a while, and once: one that
// comes again with other content is another one.
package watchfolder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/worker"
)

// Folder is one that is watched.
type Folder struct {
	Storage string        // its name
	Root    string        // its folder
	Path    string        // in it; "." for all of it
	Settled time.Duration // for how long nothing must have changed
	Spec    model.Spec    // but for source and name
}

// Engine takes migrations.
type Engine interface {
	Submit(ctx context.Context, id string, s model.Spec, name, by, key string) (engine.Record, error)
	View(ctx context.Context, id string) (model.Migration, error)
}

// Watcher looks into a folder again and again.
type Watcher struct {
	Folder
	engine Engine
	log    *slog.Logger
	now    func() time.Time
	seen   map[string]sight // by the folders of candidates
	taken  map[string]taken // by the candidates' paths
}

// taken is a candidate that is being migrated.
type taken struct{ content, migration string }

// sight is a folder's content, and since when it is so.
type sight struct {
	content string
	since   time.Time
}

// New makes a watcher.
func New(f Folder, e Engine, log *slog.Logger) *Watcher {
	return &Watcher{Folder: f, engine: e, log: log, now: time.Now, seen: map[string]sight{}, taken: map[string]taken{}}
}

// look is how often a folder is looked into. A network's file systems tell of no
// changes, so nothing else will do.
const look = 5 * time.Second

// errorsFolder is where is told why a guest was not migrated.
const errorsFolder = ".errors"

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTicker(min(look, max(w.Settled/4, time.Millisecond)))
	defer tick.Stop()
	for {
		if err := w.Look(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("a watched folder cannot be looked into", "storage", w.Storage, "folder", w.Path, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Look has the guests migrated that have settled, and tells of those that failed.
func (w *Watcher) Look(ctx context.Context) error {
	top, err := os.OpenRoot(w.Root)
	if err != nil {
		return err
	}
	defer top.Close()
	root, err := top.OpenRoot(w.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	folders, err := candidates(root.FS())
	if err != nil {
		return err
	}
	for _, f := range folders {
		if w.settled(f) {
			err = errors.Join(err, w.take(ctx, f))
		}
	}
	return errors.Join(err, w.failures(ctx, root))
}

// group is the candidates in one folder, and all that lies there.
type group struct {
	folder  string
	content string   // names, sizes and times of all files, in one text
	guests  []string // paths
}

// Depth and number of what is looked at: a folder is watched that somebody fills, and
// not a whole datastore.
const (
	maxDepth  = 3
	maxGuests = 10000
)

// candidates are the guests below a folder.
func candidates(files fs.FS) (groups []group, err error) {
	all := map[string]*group{}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && name != ".":
			return nil // it went away meanwhile, or is nobody's to read: the next look tells
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || strings.Count(name, "/") >= maxDepth):
			return fs.SkipDir
		case d.IsDir() || strings.HasPrefix(d.Name(), "."):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		folder := path.Dir(name)
		if all[folder] == nil {
			all[folder] = &group{folder: folder}
		}
		g := all[folder]
		g.content += fmt.Sprintf("%q %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		if d.Type().IsRegular() && kind(name) != "" {
			g.guests = append(g.guests, name)
		}
		return nil
	})
	n := 0
	for _, g := range all {
		g.guests = whole(g.guests)
		n += len(g.guests)
		groups = append(groups, *g)
	}
	if n > maxGuests {
		return nil, fmt.Errorf("%d guests lie there, and %d at most are taken from a watched folder; use a file of migrations instead", n, maxGuests)
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(a.folder, b.folder) })
	return groups, err
}

// kind is what a file is by its name; "" if it is no guest.
func kind(name string) string {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".vmx", ".vmdk", ".qcow2", ".raw", ".img":
		return ext
	}
	return ""
}

// piece matches the names of VMDKs that are no disks by themselves: extents, and what
// snapshots and changed-block tracking leave.
//
// Source: VMware KB 1002511 (the files of a virtual machine).
var piece = regexp.MustCompile(`(?i)-(flat|delta|sesparse|rdm|rdmp|ctk|[sf][0-9]{3}|[0-9]{6}(-(delta|sesparse|ctk))?)\.vmdk$`)

// whole are the guests of one folder: its VMX files, or if there are none its disks.
func whole(names []string) []string {
	machines := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return kind(n) != ".vmx" })
	if len(machines) > 0 {
		return machines
	}
	return slices.DeleteFunc(names, piece.MatchString)
}

// settled tells whether nothing in a folder has changed for long enough.
func (w *Watcher) settled(g group) bool {
	s, ok := w.seen[g.folder]
	if !ok || s.content != g.content {
		w.seen[g.folder] = sight{g.content, w.now()}
		return false
	}
	return w.now().Sub(s.since) >= w.Settled
}

// take has the guests of a folder migrated. Who has asked before is told so: the request
// is known by what lies in the folder.
func (w *Watcher) take(ctx context.Context, g group) (err error) {
	for _, name := range g.guests {
		if w.taken[name].content == g.content {
			continue
		}
		s := w.Spec
		s.Source = model.Source{Storage: w.Storage, Path: path.Join(w.Path, name)}
		r, failed := w.engine.Submit(ctx, "", s, worker.Name(s), "watch folder", strings.Join([]string{"watch", w.Storage, w.Path, name, g.content}, "\n"))
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, failed))
			continue
		}
		w.log.Info("a guest was found in a watched folder", "storage", w.Storage, "path", s.Source.Path, "migration", r.ID)
		w.taken[name] = taken{g.content, r.ID}
	}
	return err
}

// failures tells, in a folder beside the guests, why some were not migrated; and takes
// that back when they are.
func (w *Watcher) failures(ctx context.Context, root *os.Root) (err error) {
	for name, t := range w.taken {
		id := t.migration
		m, failed := w.engine.View(ctx, id)
		note := path.Join(errorsFolder, strings.ReplaceAll(name, "/", "_")+".txt")
		switch {
		case errors.Is(failed, engine.ErrUnknown):
			continue // forgotten; it stays so until the guest changes
		case failed != nil:
			err = errors.Join(err, failed)
		case m.State == model.StateFailed:
			err = errors.Join(err, write(root, note, fmt.Sprintf("%s was not migrated (migration %s).\n%s\n%s\n", name, id, m.Problem.Detail, m.Problem.Try)))
		default:
			if gone := root.Remove(note); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
				err = errors.Join(err, gone)
			}
		}
	}
	return err
}

// write puts a note where it is not yet.
func write(root *os.Root, name, text string) error {
	if was, err := root.ReadFile(name); err == nil && string(was) == text {
		return nil
	}
	if err := root.Mkdir(errorsFolder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return root.WriteFile(filepath.FromSlash(name), []byte(text), 0o644)
}
