package downloads

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/upload"
)

// recipe says what bytes follow one another in a download.
type recipe struct {
	Parts []part       `json:"parts"`
	Base  *model.Place `json:"base,omitempty"` // nil: the appliance's own disk
	Tag   string       `json:"tag,omitempty"`  // of the base's version
	made  []byte
}

// part is so many bytes of a source, from one of its bytes on.
type part struct {
	From string `json:"from,omitempty"` // empty for zeroes, or one of the below
	At   int64  `json:"at,omitempty"`
	Size int64  `json:"size"`
}

// Sources of bytes.
const (
	fromMade = "made"       // for this download
	fromBase = "base"       // the file in a storage
	fromKept = "kept:"      // and a name: a file that is kept here
	fromDisk = "partition:" // and a UUID: a partition of the appliance's own disk
)

func (r *recipe) size() (n int64) {
	for _, p := range r.Parts {
		n += p.Size
	}
	return n
}

// add puts a part behind the others.
func (r *recipe) add(p part) {
	if p.Size > 0 {
		r.Parts = append(r.Parts, p)
	}
}

// make puts bytes behind the others that are made for this download.
func (r *recipe) make(b []byte) {
	r.add(part{fromMade, int64(len(r.made)), int64(len(b))})
	r.made = append(r.made, b...)
}

// upTo puts zeroes behind the others, until it has so many bytes.
func (r *recipe) upTo(size int64) { r.add(part{Size: size - r.size()}) }

// sources are those that a recipe reads, open.
type sources struct {
	pieces *pieces
	open   map[string]io.ReaderAt
	files  []*os.File
}

// Close closes all.
func (s *sources) Close() (err error) {
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// follow opens what a recipe reads. An error that wraps ErrGone is of a source that is
// not there any more as it was.
func (k *Keeper) follow(r *recipe) (_ *sources, err error) {
	s := &sources{open: map[string]io.ReaderAt{"": nil, fromMade: bytes.NewReader(r.made)}}
	var list []piece
	for _, p := range r.Parts {
		if _, there := s.open[p.From]; !there {
			f, err := k.source(r, p.From)
			if err != nil {
				return nil, errors.Join(err, s.Close())
			}
			s.open[p.From], s.files = f, append(s.files, f)
		}
		list = append(list, piece{s.open[p.From], p.At, p.Size})
	}
	s.pieces = newPieces(list...)
	return s, nil
}

func (k *Keeper) source(r *recipe, from string) (*os.File, error) {
	if from == fromBase {
		f, err := k.base(*r.Base)
		if err != nil {
			return nil, fmt.Errorf("%w: what it is made of cannot be read: %w", ErrGone, err)
		}
		return f, errors.Join(unchanged(f, r.Tag))
	}
	if name, ok := strings.CutPrefix(from, fromKept); ok {
		return os.Open(filepath.Join(k.kept(), filepath.Base(name)))
	}
	name, _ := strings.CutPrefix(from, fromDisk)
	f, err := k.Machine.partition(name)
	if err != nil {
		return nil, fmt.Errorf("%w: the appliance runs from another disk or another version than when it was made: make it anew: %w", ErrGone, err)
	}
	return f, nil
}

// base opens a file of a storage.
func (k *Keeper) base(p model.Place) (*os.File, error) {
	s, err := k.Storages.Now().Find(p.Storage)
	if err != nil {
		return nil, err
	}
	return s.Open(p.Path)
}

// unchanged tells whether a file is the version of a tag.
func unchanged(f *os.File, tag string) error {
	info, err := f.Stat()
	if err == nil && upload.Tag(info) != tag {
		err = fmt.Errorf("%w: the image that it is made of has changed since: make it anew", ErrGone)
	}
	return err
}
