package downloads

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/pipeline/durable"
)

// record is what is kept of a download that is ready. What was made for it is sealed.
type record struct {
	Version  int            `json:"version"`
	Download model.Download `json:"download"`
	Recipe   recipe         `json:"recipe"`
	Made     []byte         `json:"made"`
}

const recordVersion = 1

func (k *Keeper) record(id string) string { return filepath.Join(k.records(), id+".json") }

// sealedFor is what the bytes of a download are sealed for.
func sealedFor(id string) string { return "download " + id }

// save keeps a download, whole or not at all.
func (k *Keeper) save(d model.Download, r *recipe) error {
	text, err := json.Marshal(record{recordVersion, d, *r, k.Sealer.Seal(sealedFor(d.ID), r.made)})
	if err != nil {
		return err
	}
	return durable.Write(k.record(d.ID), text)
}

// drop removes what is kept of a download.
func (k *Keeper) drop(id string) error {
	err := os.Remove(k.record(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// load reads what was kept. What cannot be read any more, such as after the appliance's
// key was lost, is removed: it is worth no more than to be made anew.
func (k *Keeper) load() error {
	entries, err := os.ReadDir(k.records())
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(k.records(), e.Name())
		if filepath.Ext(path) != ".json" { // one that nobody was told of
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		d, err := k.read(path)
		if err != nil {
			k.Log.Warn("a download is lost", "file", e.Name(), "err", err)
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		k.all[d.ID] = d
	}
	return nil
}

func (k *Keeper) read(path string) (*known, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("it is of version %d, and this program reads version %d", r.Version, recordVersion)
	}
	if r.Recipe.made, err = k.Sealer.Open(sealedFor(r.Download.ID), r.Made); err != nil {
		return nil, err
	}
	return &known{r.Download, &r.Recipe}, nil
}
