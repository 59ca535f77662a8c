package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

// Bounds of what is kept of a migration beside its folder.
const (
	maxFiles = 200
	maxFile  = 16 << 20
)

// keepFiles keeps the small files of a migration: its record, report, screens, logs.
func (w *Worker) keepFiles(ctx context.Context, j engine.Job, folder string) (err error) {
	root, err := os.OpenRoot(folder)
	if errors.Is(err, fs.ErrNotExist) { // it has made nothing
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	files, err := Files(folder)
	if err != nil {
		return err
	}
	var small []engine.File
	for _, f := range files {
		info, err := root.Stat(f.Path)
		if err != nil {
			return err
		}
		if !IsDisk(f.Path) && info.Size() <= maxFile && len(small) < maxFiles {
			small = append(small, engine.File{Path: f.Path, Size: info.Size(), Changed: info.ModTime(), Open: func() (io.ReadCloser, error) { return root.Open(f.Path) }})
		}
	}
	return w.Keep(ctx, j.ID, small)
}

// IsDisk tells whether a file of a migration is one of its disks, or what belongs to one.
func IsDisk(path string) bool {
	ext := filepath.Ext(path)
	return ext == ".qcow2" || ext == ".raw" || ext == ".vmdk" || ext == ".vdi" || ext == ".vhdx" || ext == ".manifest"
}

// Files are the files that a migration has made in its folder; none if it is not there.
func Files(folder string) (list []model.File, err error) {
	err = fs.WalkDir(os.DirFS(folder), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && path == "work":
			return fs.SkipDir
		case !d.Type().IsRegular() || path == "lock" || strings.HasSuffix(path, ".new"):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		list = append(list, model.File{Path: path, Size: info.Size()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", folder, err)
	}
	return list, nil
}
