package downloads

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/ova"
	"hyper2kvm/agent/upload"
	"hyper2kvm/pipeline/durable"
)

// ova is the recipe of an OVA that says the values as its properties.
func (k *Keeper) ova(ctx context.Context, base *model.Place, values map[string]string) (*recipe, error) {
	lines, err := properties(values)
	if err != nil {
		return nil, err
	}
	if base == nil {
		return k.ovaOfOwn(ctx, lines)
	}
	f, err := k.base(*base)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a, err := readArchive(f, info.Size())
	if err != nil {
		return nil, err
	}
	if err := k.checkOnce(ctx, a, f, *base, upload.Tag(info)); err != nil {
		return nil, err
	}
	r, err := a.retold(fromBase, lines, k.Now())
	if err == nil {
		r.Base, r.Tag = base, upload.Tag(info)
	}
	return r, err
}

// mostProperty is how long a property's value can be in vSphere, bytes.
const mostProperty = 64<<10 - 1

// properties are values as an OVF environment has them, which keeps no line breaks.
func properties(values map[string]string) (map[string]string, error) {
	lines := map[string]string{}
	for key, text := range values {
		text = strings.TrimSpace(text)
		if strings.ContainsAny(text, "\r\n\t") || strings.HasPrefix(text, encoded) {
			text = encoded + base64.StdEncoding.EncodeToString([]byte(text))
		}
		if len(text) > mostProperty {
			return nil, fmt.Errorf("%w: %s: is too long for a property of an OVA, which has %d bytes at most: shorten it, or make a raw image", ErrInput, key, mostProperty)
		}
		lines[key] = text
	}
	return lines, nil
}

// encoded begins a value that has several lines, as first boot reads it.
const encoded = "base64:"

// checkOnce holds an archive to its manifest, unless this version of it was already.
func (k *Keeper) checkOnce(ctx context.Context, a *archive, f *os.File, at model.Place, tag string) error {
	version := at.Storage + "/" + at.Path + " " + tag
	k.mu.Lock()
	done := k.checked[version]
	k.mu.Unlock()
	if done {
		return nil
	}
	if err := a.check(ctx, f); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.checked[version] = true
	return nil
}

// ovaOfOwn is made of the appliance's own disk: once for each root, since that takes
// minutes.
func (k *Keeper) ovaOfOwn(ctx context.Context, lines map[string]string) (*recipe, error) {
	h, err := k.Machine.home()
	if err != nil {
		return nil, err
	}
	name := ownName(h.hash)
	path := filepath.Join(k.kept(), name)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := k.makeOVA(ctx, &h.layout, path); err != nil {
			return nil, err
		}
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a, err := readArchive(f, info.Size())
	if err != nil {
		return nil, err
	}
	return a.retold(fromKept+name, lines, k.Now())
}

// ownName is what the OVA of the appliance's own disk is called that has a root.
func ownName(hash string) string { return hash[:32] + ".ova" }

// makeOVA makes the OVA of the appliance's own disk, whole or not at all.
func (k *Keeper) makeOVA(ctx context.Context, l *layout, path string) (err error) {
	const copies = 3 // of the image: as it is, streamed, and within the archive
	if err := k.room(copies * l.end()); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(k.kept(), partPrefix+"*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	image, made := filepath.Join(folder, "image"), filepath.Join(folder, "ova")
	if err := k.writeImage(ctx, image); err != nil {
		return err
	}
	if err := ova.Write(ctx, ova.Usual(k.Version), image, made); err != nil {
		return err
	}
	if err := durable.Sync(made); err != nil {
		return err
	}
	return durable.Rename(made, path)
}

// writeImage writes the appliance's own disk as an image without settings.
func (k *Keeper) writeImage(ctx context.Context, path string) (err error) {
	r, err := k.rawOfOwn(ctx, nil, 0)
	if err != nil {
		return err
	}
	s, err := k.follow(r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(copySparse(ctx, f, s.pieces, s.pieces.size()), f.Close())
}
