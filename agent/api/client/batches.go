package client

import (
	"context"
	"errors"
	"time"

	"hyper2kvm/agent/api/model"
)

// SubmitBatch begins many migrations at once, or only checks that it could.
func (c *Conn) SubmitBatch(ctx context.Context, r model.BatchRequest, validate bool) (model.Batch, error) {
	return into[model.Batch](c.api.SubmitBatch(ctx, &model.SubmitBatchParams{ValidateOnly: validate, IdempotencyKey: newKey()}, r))
}

// Batch is how a batch stands.
func (c *Conn) Batch(ctx context.Context, name string) (model.Batch, error) {
	return into[model.Batch](c.api.ReadBatch(ctx, name))
}

// Batches are all of them, the newest first.
func (c *Conn) Batches(ctx context.Context) ([]model.Batch, error) {
	list, err := into[struct{ Items []model.Batch }](c.api.ListBatches(ctx))
	return list.Items, err
}

// askBatch is how often it is looked whether something was passed on to a whole batch.
const askBatch = 200 * time.Millisecond

// OrderBatch has something done to all migrations of a batch, and waits until each of
// them knows.
func (c *Conn) OrderBatch(ctx context.Context, name string, order model.BatchOrder) (model.Batch, error) {
	b, err := into[model.Batch](c.api.OrderBatch(ctx, name, string(order), &model.OrderBatchParams{IdempotencyKey: newKey()}))
	for err == nil && b.Pending != "" {
		if err = sleep(ctx, askBatch); err == nil {
			b, err = c.Batch(ctx, name)
		}
	}
	return b, err
}

// ForgetBatch forgets a batch that has ended, with its migrations.
func (c *Conn) ForgetBatch(ctx context.Context, name string) error {
	b, err := into[model.Batch](c.api.ForgetBatch(ctx, name))
	if err != nil {
		return err
	}
	for err == nil && b.Pending != "" { // or another one has its name
		if err = sleep(ctx, askBatch); err == nil {
			b, err = c.Batch(ctx, name)
		}
	}
	if r, ok := errors.AsType[*Refusal](err); ok && r.Code == "no-such-batch" {
		return nil
	}
	return err
}
