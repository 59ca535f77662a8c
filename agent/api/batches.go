package api

import (
	"context"
	"encoding/json"
	"fmt"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/batch"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/worker"
)

// maxBatch is how large the request for a batch may be, bytes.
const maxBatch = 1 << 20

// ListBatches implements listBatches.
func (s *server) ListBatches(context.Context, ListBatchesRequestObject) (ListBatchesResponseObject, error) {
	return ListBatches200JSONResponse{Items: s.Engine.Batches()}, nil
}

// SubmitBatch implements submitBatch.
func (s *server) SubmitBatch(ctx context.Context, r SubmitBatchRequestObject) (SubmitBatchResponseObject, error) {
	b, err := s.batch(ctx, r.Body)
	if err != nil {
		return nil, err
	}
	if r.Params.ValidateOnly {
		v, err := s.Engine.DraftBatch(b)
		return SubmitBatch200JSONResponse(v), err
	}
	v, err := s.Engine.SubmitBatch(ctx, b)
	return SubmitBatch202JSONResponse{batchAccepted(v)}, err
}

// batch is what a request asks for, whole.
func (s *server) batch(ctx context.Context, r *model.BatchRequest) (b engine.Batch, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return b, err
	}
	if len(text) > maxBatch {
		return b, fmt.Errorf("%w: the request has %d bytes, and %d is the most: submit it in parts", engine.ErrTooLarge, len(text), maxBatch)
	}
	asked, err := batch.Read(text)
	if err != nil {
		return b, err
	}
	b = engine.Batch{Name: asked.Name, By: principal(ctx).Name, AtOnce: asked.AtOnce, Groups: asked.Groups}
	for _, m := range asked.Migrations {
		if err := s.checkSpec(m.Spec); err != nil {
			return b, fmt.Errorf("%s: %w", m.ID, err)
		}
		b.Members = append(b.Members, engine.Member{ID: m.ID, Name: worker.Name(m.Spec), Spec: m.Spec})
	}
	return b, nil
}

func batchAccepted(b model.Batch) BatchAcceptedJSONResponse {
	return BatchAcceptedJSONResponse{Body: b, Headers: BatchAcceptedResponseHeaders{Location: base + "/batches/" + b.Name}}
}

// ReadBatch implements readBatch.
func (s *server) ReadBatch(ctx context.Context, r ReadBatchRequestObject) (ReadBatchResponseObject, error) {
	b, err := s.Engine.Batch(ctx, r.Batch)
	return ReadBatch200JSONResponse(b), err
}

// ForgetBatch implements forgetBatch.
func (s *server) ForgetBatch(ctx context.Context, r ForgetBatchRequestObject) (ForgetBatchResponseObject, error) {
	b, err := s.Engine.OrderBatch(ctx, r.Batch, model.BatchOrderForget, principal(ctx).Name, "")
	return ForgetBatch202JSONResponse{batchAccepted(b)}, err
}

// OrderBatch implements orderBatch.
func (s *server) OrderBatch(ctx context.Context, r OrderBatchRequestObject) (OrderBatchResponseObject, error) {
	b, err := s.Engine.OrderBatch(ctx, r.Batch, model.BatchOrder(r.Order), principal(ctx).Name, key(ctx, r.Params.IdempotencyKey))
	return OrderBatch202JSONResponse{batchAccepted(b)}, err
}
