package auth

import (
	"context"
	"errors"
)

// Store keeps small records that several appliances share. Every change names the
// revision that it stands on: one that somebody else has changed in between is not
// changed. A bucket of JetStream's can implement it; package authtest has what must hold
// of an implementation.
//
// Keys are words of a-z, 0-9 and - with dots between, 200 bytes at most; values have
// 512 KiB at most.
type Store interface {
	// Read returns a copy of what stands at a key, or ErrNotFound. Revisions are above 0,
	// and one is not used again for a key, not even after it was deleted.
	Read(ctx context.Context, key string) (value []byte, revision uint64, err error)
	// Create puts a value where there is none, or returns ErrExists.
	Create(ctx context.Context, key string, value []byte) error
	// Update replaces what is at that revision, or returns ErrChanged: also if the key
	// was deleted, or is not there.
	Update(ctx context.Context, key string, value []byte, revision uint64) error
	// Delete removes what is at that revision, or returns ErrChanged.
	Delete(ctx context.Context, key string, revision uint64) error
	// List returns the keys that begin with a prefix, in any order. The prefix is empty
	// or ends in a dot.
	List(ctx context.Context, prefix string) ([]string, error)
}

// What a store answers, and what the gate answers of users, tokens and certificates.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("is there already")
	ErrChanged  = errors.New("was changed by another at the same time")
)
