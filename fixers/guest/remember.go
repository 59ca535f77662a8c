package guest

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
)

// Remember keeps what was read of a guest until something is written or mounted, for an
// engine that takes long to answer: nobody else changes a guest's files. What is remembered
// is told also when the engine has ended; Err asks that itself.
func Remember(g Guest) Guest {
	r := &remembered{Guest: g}
	r.forget()
	return r
}

// remembered is a Guest and what was read of it, by the names that were asked for. What is
// not there is remembered too. An engine need not tell of a folder's files by the names that
// lead to them, as FAT's do whatever their case: of a list only what is in it is known.
type remembered struct {
	Guest
	infos map[string]answer[Info]
	lists map[string][]Info
	links map[string]string
	files map[string]answer[[]byte]
	attrs map[string]map[string][]byte
	count int   // of what is remembered
	bytes int64 // of files, links and attributes
}

// answer is a value, or that there is none.
type answer[T any] struct {
	value T
	err   error // wraps fs.ErrNotExist
}

// Bounds of what is remembered. What is over a bound is forgotten with all the rest.
const (
	maxRemembered = 2 * MaxEntries
	maxBytes      = 64 << 20
	maxOfAFile    = 4 << 20 // and of its attributes
)

func (r *remembered) forget() {
	r.infos, r.lists, r.links = map[string]answer[Info]{}, map[string][]Info{}, map[string]string{}
	r.files, r.attrs = map[string]answer[[]byte]{}, map[string]map[string][]byte{}
	r.count, r.bytes = 0, 0
}

// room makes room for what is to be remembered.
func (r *remembered) room(count int, bytes int64) {
	if r.count+count > maxRemembered || r.bytes+bytes > maxBytes {
		r.forget()
	}
	r.count, r.bytes = r.count+count, r.bytes+bytes
}

// worthIt tells whether an answer is to be remembered: other errors than absence may pass.
func worthIt(err error) bool { return err == nil || errors.Is(err, fs.ErrNotExist) }

func (r *remembered) Lstat(name string) (Info, error) {
	a, ok := r.infos[name]
	if !ok {
		if a.value, a.err = r.Guest.Lstat(name); worthIt(a.err) {
			r.room(1, 0)
			r.infos[name] = a
		}
	}
	return a.value, a.err
}

func (r *remembered) ReadDir(name string) ([]Info, error) {
	if list, ok := r.lists[name]; ok {
		return slices.Clone(list), nil
	}
	list, err := r.Guest.ReadDir(name)
	if err != nil {
		return nil, err
	}
	r.room(2*len(list)+1, 0)
	r.lists[name] = slices.Clone(list)
	if path.Clean(name) == name {
		for _, info := range list {
			r.infos[path.Join(name, info.Name)] = answer[Info]{value: info}
		}
	}
	return list, nil
}

func (r *remembered) Readlink(name string) (string, error) {
	if target, ok := r.links[name]; ok {
		return target, nil
	}
	target, err := r.Guest.Readlink(name)
	if err == nil {
		r.room(1, int64(len(target)))
		r.links[name] = target
	}
	return target, err
}

func (r *remembered) ReadFile(name string, limit int64) ([]byte, error) {
	a, ok := r.files[name]
	if ok && int64(len(a.value)) <= limit {
		return slices.Clone(a.value), a.err
	}
	if a.value, a.err = r.Guest.ReadFile(name, limit); worthIt(a.err) && len(a.value) <= maxOfAFile {
		r.room(1, int64(len(a.value)))
		r.files[name] = answer[[]byte]{slices.Clone(a.value), a.err}
	}
	return a.value, a.err
}

func (r *remembered) Xattrs(name string) (map[string][]byte, error) {
	if attrs, ok := r.attrs[name]; ok {
		return cloned(attrs), nil
	}
	attrs, err := r.Guest.Xattrs(name)
	size := int64(0)
	for key, value := range attrs {
		size += int64(len(key) + len(value))
	}
	if err == nil && size <= maxOfAFile {
		r.room(1, size)
		r.attrs[name] = cloned(attrs)
	}
	return attrs, err
}

func cloned(attrs map[string][]byte) map[string][]byte {
	attrs = maps.Clone(attrs)
	for name, value := range attrs {
		attrs[name] = slices.Clone(value)
	}
	return attrs
}

func (r *remembered) WriteFile(name string, offset int64, data []byte) error {
	r.forget()
	return r.Guest.WriteFile(name, offset, data)
}

func (r *remembered) Truncate(name string, size int64) error {
	r.forget()
	return r.Guest.Truncate(name, size)
}

func (r *remembered) Mkdir(name string, mode fs.FileMode) error {
	r.forget()
	return r.Guest.Mkdir(name, mode)
}

func (r *remembered) Symlink(target, name string) error {
	r.forget()
	return r.Guest.Symlink(target, name)
}

func (r *remembered) Remove(name string) error {
	r.forget()
	return r.Guest.Remove(name)
}

func (r *remembered) SetMeta(name string, m Meta) error {
	r.forget()
	return r.Guest.SetMeta(name, m)
}

func (r *remembered) Mount(device, at string) error {
	r.forget()
	return r.Guest.Mount(device, at)
}

func (r *remembered) MountSubvolume(device string, id uint64, at string) error {
	r.forget()
	return r.Guest.MountSubvolume(device, id, at)
}

func (r *remembered) UnmountAll() error {
	r.forget()
	return r.Guest.UnmountAll()
}

func (r *remembered) Check(ctx context.Context, device string) (Health, error) {
	r.forget()
	return r.Guest.Check(ctx, device)
}

func (r *remembered) Grow(ctx context.Context, change Resize) error {
	r.forget()
	return r.Guest.Grow(ctx, change)
}
