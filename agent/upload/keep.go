package upload

import (
	"errors"
	"fmt"
	"io/fs"
)

// Read is how far an upload is; fs.ErrNotExist if there is none.
func (r *Receiver) Read(key string) (Upload, error) {
	v, err := r.records.read(key)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("nothing is being uploaded to this name: %w", fs.ErrNotExist)
	}
	return v.Upload, err
}

// List are the uploads that were not finished, by their keys.
func (r *Receiver) List() ([]Upload, error) {
	all, err := r.records.all()
	list := []Upload{}
	for _, v := range all {
		list = append(list, v.Upload)
	}
	return list, err
}

// Drop gives an upload up: what has come is removed.
func (r *Receiver) Drop(key string) error {
	done, _, err := r.hold(key)
	if err != nil {
		return err
	}
	defer done()
	if _, err := r.Read(key); err != nil {
		return err
	}
	return r.drop(key)
}

func (r *Receiver) drop(key string) error {
	folder, name, err := r.where(key)
	if err == nil {
		err = errors.Join(gone(folder.Remove(name+Suffix)), folder.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // with its folder it has gone too
		return err
	}
	return r.records.remove(key)
}

// Sweep gives up what has not gone on for too long. One that cannot be given up now is
// tried the next time.
func (r *Receiver) Sweep() error {
	list, err := r.List()
	for _, u := range list {
		if r.now().Sub(u.Changed) < Kept {
			continue
		}
		done, _, busy := r.hold(u.Key)
		if busy != nil {
			continue
		}
		if failed := r.drop(u.Key); failed != nil {
			err = errors.Join(err, fmt.Errorf("the upload %s: %w", u.Key, failed))
		}
		done()
	}
	return err
}
