package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"golang.org/x/crypto/argon2"
)

// cost is what a password costs to try.
type cost struct {
	memory uint32 // KiB
	passes uint32
	lanes  uint8
}

// theCost is what new passwords cost: 64 MiB, and 137 ms on two cores of an EPYC from 2021.
//
// Source: RFC 9106, section 4, the second recommended option, for less memory.
var theCost = cost{memory: 64 << 10, passes: 3, lanes: 4}

const (
	saltSize = 16 // Source: RFC 9106, section 4
	hashSize = 32

	mostMemory = 256 << 10 // KiB, of a hash that is read
	mostPasses = 16
	mostLanes  = 16
)

// hashed is a password as it is kept.
type hashed struct {
	cost
	salt, key []byte
}

// String is in the form of the reference implementation.
//
// Source: P-H-C/phc-winner-argon2, encoding.c.
func (h hashed) String() string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.lanes, b.EncodeToString(h.salt), b.EncodeToString(h.key))
}

var errHash = errors.New("what is kept of a password cannot be read")

// parseHash reads what String writes, and nothing else.
func parseHash(text string) (h hashed, err error) {
	fields := strings.Split(text, "$")
	if len(fields) != 6 || len(text) > 256 {
		return h, errHash
	}
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &h.lanes); err != nil {
		return h, errHash
	}
	h.salt, _ = base64.RawStdEncoding.DecodeString(fields[4])
	h.key, _ = base64.RawStdEncoding.DecodeString(fields[5])
	if h.String() != text || !h.sane() {
		return hashed{}, errHash
	}
	return h, nil
}

func (h hashed) sane() bool {
	return len(h.salt) == saltSize && len(h.key) == hashSize &&
		h.lanes > 0 && h.lanes <= mostLanes && h.passes > 0 && h.passes <= mostPasses &&
		h.memory >= 8*uint32(h.lanes) && h.memory <= mostMemory
}

// decoy costs what a user's password costs, and fits none.
var decoy = hashed{theCost, make([]byte, saltSize), make([]byte, hashSize)}.String()

const (
	atOnce  = 1  // 64 MiB each; more would take the cores from migrations
	waiting = 32 // 5 seconds of an idle machine
)

// hasher hashes passwords, few at once, so that log-ins take no more than their memory.
type hasher struct {
	queue, slots chan struct{}
	derive       func(password, salt []byte, c cost) []byte
}

func newHasher() *hasher {
	return &hasher{
		queue:  make(chan struct{}, atOnce+waiting),
		slots:  make(chan struct{}, atOnce),
		derive: argon2id,
	}
}

// argon2id gives back at once what it took: until the next collection it would be the
// agent's, and that of several log-ins together.
func argon2id(password, salt []byte, c cost) []byte {
	defer debug.FreeOSMemory()
	return argon2.IDKey(password, salt, c.passes, c.memory, c.lanes, hashSize)
}

// fits tells whether a password is the one of which a hash is kept.
func (h *hasher) fits(ctx context.Context, kept, password string) (bool, error) {
	want, err := parseHash(kept)
	if err != nil {
		return false, err
	}
	key, err := h.key(ctx, password, want.salt, want.cost)
	return err == nil && subtle.ConstantTimeCompare(key, want.key) == 1, err
}

// keep is what is kept of a new password.
func (h *hasher) keep(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	key, err := h.key(ctx, password, salt, theCost)
	return hashed{theCost, salt, key}.String(), err
}

// key waits for its turn, or returns ErrBusy if many wait already.
func (h *hasher) key(ctx context.Context, password string, salt []byte, c cost) ([]byte, error) {
	select {
	case h.queue <- struct{}{}:
		defer func() { <-h.queue }()
	default:
		return nil, ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return h.derive([]byte(normal(password)), salt, c), nil
}
