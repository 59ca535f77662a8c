package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
)

// A plan may be larger than a record. It is a file that is kept with the migration, under
// its digest, and the record has the digest: of two requests at once for one ID that which
// is kept has its own plan.

// SubmitWith keeps a new migration as Submit does, with the plan that it is to apply.
func (e *Engine) SubmitWith(ctx context.Context, id string, s model.Spec, plan []byte, name, by, key string) (Record, error) {
	r := newRecord(newID(id, name, key), s, name, by, key, time.Now().UTC())
	r.GivenPlan = digestOfBytes(plan)
	r.Requests[0].Digest = digest([]any{s, r.GivenPlan})
	if _, err := e.read(ctx, r.ID); errors.Is(err, ErrUnknown) { // else what is there is not touched
		if err := e.keepPlan(ctx, r, plan); err != nil {
			return Record{}, fmt.Errorf("keep the plan of %s: %w", r.ID, err)
		}
	}
	return e.keepNew(ctx, r)
}

// keepPlan keeps a plan before there is a record that names it. The same request may be
// sent again while it is done.
func (e *Engine) keepPlan(ctx context.Context, r Record, plan []byte) error {
	f := File{Path: planFile(r.GivenPlan), Size: int64(len(plan)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(plan)), nil }}
	for {
		err := e.Keep(ctx, r.ID, []File{f})
		if !errors.Is(err, auth.ErrExists) && !errors.Is(err, auth.ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}

// planFile is where a plan of a digest is among the files that are kept.
func planFile(d model.Digest) string {
	return "approved-" + strings.TrimPrefix(d, "sha256:")[:16] + ".json"
}

// Plan is the plan that a migration was asked for with.
func (e *Engine) Plan(ctx context.Context, r Record) (plan []byte, err error) {
	f, _, err := e.OpenKept(ctx, r.ID, planFile(r.GivenPlan))
	if err != nil {
		return nil, fmt.Errorf("the plan that it was asked for with: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if plan, err = io.ReadAll(f); err != nil { // it is bounded when it is kept
		return nil, err
	}
	if digestOfBytes(plan) != r.GivenPlan {
		return nil, errors.New("the plan that is kept is not the one that it was asked for with")
	}
	return plan, nil
}

func digestOfBytes(text []byte) model.Digest {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}
