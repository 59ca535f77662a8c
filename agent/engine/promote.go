package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/durable"
)

// An appliance that was alone and then votes with others carries what it has kept over to
// them. The server does not do that by itself: it goes on with its own files, the others
// have nothing, and when it is lost, all is. So what is there is written out before the
// server starts among others, and given to all of them afterwards, with its numbers. The
// others wait for that: a stream that is there is not written over.
//
// carried is the folder that this is in meanwhile; it is there whole or not at all.
const carried = "carried"

// carries tells whether this appliance has something to carry over, and has it written out.
func carries(ctx context.Context, c Config, id string) (bool, error) {
	store, folder := filepath.Join(c.State, "engine"), filepath.Join(c.State, carried)
	alone, err := wasAlone(store)
	if err != nil {
		return false, err
	}
	switch there, err := exists(folder); {
	case err != nil:
		return false, err
	case !there && !alone:
		return false, nil
	case alone && !c.Shape.Cluster.First:
		return false, fmt.Errorf("%w: %s holds what this appliance has kept by itself, and the others have theirs: move it away, and this one takes over what they keep", ErrShape, store)
	case !there:
		if err := writeOut(ctx, c, id, folder); err != nil {
			return false, fmt.Errorf("write out what is kept: %w", err)
		}
	}
	if alone {
		c.Log.Info("what this appliance has kept by itself is laid aside", "folder", store+"-alone")
		return true, durable.Rename(store, store+"-alone")
	}
	return true, nil
}

// wasAlone tells whether a server has kept something by itself, and never among others.
//
// Source: nats-server, server/jetstream_cluster.go, defaultMetaGroupName;
// server/filestore.go, streamsDir.
func wasAlone(store string) (bool, error) {
	kept, err := exists(filepath.Join(store, "jetstream", server.DEFAULT_GLOBAL_ACCOUNT, "streams"))
	if err != nil || !kept {
		return false, err
	}
	voted, err := exists(filepath.Join(store, "jetstream", server.DEFAULT_SYSTEM_ACCOUNT, "_js_", "_meta_"))
	return !voted, err
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// writeOut writes all that is kept into a folder, by a server that nobody else reaches.
func writeOut(ctx context.Context, c Config, id, folder string) (err error) {
	c.Shape = Shape{}
	b, err := openBus(ctx, c, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	fresh := folder + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.Mkdir(fresh, 0o700)); err != nil {
		return err
	}
	var list []Snapshot
	for _, stream := range snapshotted {
		s, err := b.snapshot(ctx, stream, filepath.Join(fresh, stream))
		if err != nil {
			return fmt.Errorf("%s: %w", stream, err)
		}
		list = append(list, s)
	}
	if err := writeList(filepath.Join(fresh, carriedList), list); err != nil {
		return err
	}
	return durable.Rename(fresh, folder)
}

// carriedList is the file that says what is carried over.
const carriedList = "list.json"

// writeList is the last that is written, and has all before it on stable storage.
func writeList(path string, list []Snapshot) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, unix.Syncfs(int(f.Fd())), f.Close())
}

// carryOver gives all that vote what this appliance has kept by itself. It may be
// interrupted at any moment, and is begun again then.
func (b *bus) carryOver(ctx context.Context, c Config) error {
	folder := filepath.Join(c.State, carried)
	text, err := os.ReadFile(filepath.Join(folder, carriedList))
	if err != nil {
		return err
	}
	var list []Snapshot
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	slices.SortStableFunc(list, func(x, y Snapshot) int { return cmp.Compare(rank(x), rank(y)) })
	for _, s := range list {
		s.Path = filepath.Join(folder, s.Stream)
		if err := insistFor(ctx, giveTime, unsettled, func(ctx context.Context) error { return b.give(ctx, s) }); err != nil {
			return fmt.Errorf("carry %s over: %w", s.Stream, err)
		}
		c.Log.Info("what was kept is carried over", "stream", s.Stream)
	}
	return os.RemoveAll(folder)
}

// rank puts the migrations last: where they are, all is.
func rank(s Snapshot) int {
	if s.Stream == jobsStream {
		return 1
	}
	return 0
}

// unsettled tells of an error of the others, which may be starting, and not of a file.
func unsettled(err error) bool {
	_, file := errors.AsType[*fs.PathError](err)
	return !file && passing(err)
}

// give restores a stream three times, unless it is there whole.
func (b *bus) give(ctx context.Context, s Snapshot) error {
	var held struct {
		LastSeq uint64 `json:"last_seq"`
	}
	if err := json.Unmarshal(s.State, &held); err != nil {
		return err
	}
	if held.LastSeq == 0 { // there is nothing in it, and it is made with the others
		return nil
	}
	whole, err := b.whole(ctx, s.Stream, held.LastSeq)
	if err != nil || whole {
		return err
	}
	return b.restore(ctx, s, mostReplicas)
}

// whole tells whether a stream is there with all that it is to hold. One that was left
// half restored is removed. What a cluster without a leader is asked is lost: this asks
// first, and has little patience.
func (b *bus) whole(ctx context.Context, stream string, last uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if s.CachedInfo().State.LastSeq >= last {
		return true, nil
	}
	return false, b.js.DeleteStream(ctx, stream)
}
