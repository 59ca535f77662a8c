package upload

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hyper2kvm/pipeline/durable"
)

// record is what is kept of an upload.
type record struct {
	Version int `json:"version"`
	Upload
	Hash []byte `json:"hash"` // the state of SHA-256 after Offset bytes
}

// recordVersion is the version of the records that this program writes.
const recordVersion = 1

func (w *writing) record() record {
	state, err := w.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // it cannot: crypto/sha256 says so
	}
	return record{recordVersion, w.Upload, state}
}

// resume puts a hash to where the record is.
func (r record) resume(h hash.Hash) error {
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(r.Hash); err != nil {
		return fmt.Errorf("the record of the upload %s is damaged: give it up, and begin anew: %w", r.Key, err)
	}
	return nil
}

// records are files in a folder.
type records struct{ folder string }

func (r records) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(r.folder, hex.EncodeToString(sum[:])+".json")
}

// read is a key's record; fs.ErrNotExist if there is none.
func (r records) read(key string) (record, error) {
	return readRecord(r.path(key))
}

func readRecord(path string) (v record, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return v, fmt.Errorf("the record of an upload, %s: %w", path, err)
	}
	if v.Version != recordVersion {
		return v, fmt.Errorf("the record of the upload %s is of version %d, and this program reads version %d", v.Key, v.Version, recordVersion)
	}
	return v, nil
}

// write replaces a record.
func (r records) write(v record) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durable.Write(r.path(v.Key), text)
}

func (r records) remove(key string) error { return gone(os.Remove(r.path(key))) }

// bounded tells whether one more is taken.
func (r records) bounded() error {
	list, err := os.ReadDir(r.folder)
	if err == nil && len(list) >= most {
		err = fmt.Errorf("%w: %d wait to be gone on with; give some up", ErrUnfinished, len(list))
	}
	return err
}

// all are the records, by their keys.
func (r records) all() (list []record, err error) {
	entries, err := os.ReadDir(r.folder)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		v, err := readRecord(filepath.Join(r.folder, e.Name()))
		if errors.Is(err, fs.ErrNotExist) { // it was finished meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b record) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}
