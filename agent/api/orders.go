package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
)

// errNoOperation is one that is not known, or not any more.
var errNoOperation = errors.New("there is no such operation")

// askAgain is after how many seconds to ask how far an operation is.
const askAgain = 2

// accepted is the answer to a request that something takes up.
func accepted(o model.Operation) AcceptedJSONResponse {
	return AcceptedJSONResponse{Body: o, Headers: AcceptedResponseHeaders{Location: base + "/operations/" + o.ID, RetryAfter: askAgain}}
}

// order has something done to a migration.
func (s *server) order(ctx context.Context, id, idempotency, match string, o engine.Order) (AcceptedJSONResponse, error) {
	revision, err := ifMatch(match)
	if err != nil {
		return AcceptedJSONResponse{}, err
	}
	o.By, o.Key, o.Revision = principal(ctx).Name, key(ctx, idempotency), revision
	op, _, err := s.Engine.Order(ctx, id, o)
	return accepted(op), err
}

// ApprovePlan implements approvePlan.
func (s *server) ApprovePlan(ctx context.Context, r ApprovePlanRequestObject) (ApprovePlanResponseObject, error) {
	a, err := s.order(ctx, r.ID, r.Params.IdempotencyKey, r.Params.IfMatch, engine.Order{Kind: model.OperationKindApprove, Digest: r.Body.Digest})
	return ApprovePlan202JSONResponse{a}, err
}

// PauseMigration implements pauseMigration.
func (s *server) PauseMigration(ctx context.Context, r PauseMigrationRequestObject) (PauseMigrationResponseObject, error) {
	a, err := s.order(ctx, r.ID, r.Params.IdempotencyKey, r.Params.IfMatch, engine.Order{Kind: model.OperationKindPause})
	return PauseMigration202JSONResponse{a}, err
}

// ResumeMigration implements resumeMigration.
func (s *server) ResumeMigration(ctx context.Context, r ResumeMigrationRequestObject) (ResumeMigrationResponseObject, error) {
	a, err := s.order(ctx, r.ID, r.Params.IdempotencyKey, r.Params.IfMatch, engine.Order{Kind: model.OperationKindResume})
	return ResumeMigration202JSONResponse{a}, err
}

// RetryMigration implements retryMigration.
func (s *server) RetryMigration(ctx context.Context, r RetryMigrationRequestObject) (RetryMigrationResponseObject, error) {
	a, err := s.order(ctx, r.ID, r.Params.IdempotencyKey, r.Params.IfMatch, engine.Order{Kind: model.OperationKindRetry})
	return RetryMigration202JSONResponse{a}, err
}

// CancelMigration implements cancelMigration.
func (s *server) CancelMigration(ctx context.Context, r CancelMigrationRequestObject) (CancelMigrationResponseObject, error) {
	a, err := s.order(ctx, r.ID, r.Params.IdempotencyKey, r.Params.IfMatch, engine.Order{Kind: model.OperationKindCancel})
	return CancelMigration202JSONResponse{a}, err
}

// UndoMigration implements undoMigration.
func (s *server) UndoMigration(ctx context.Context, r UndoMigrationRequestObject) (UndoMigrationResponseObject, error) {
	a, err := s.order(ctx, r.ID, r.Params.IdempotencyKey, r.Params.IfMatch, engine.Order{Kind: model.OperationKindUndo})
	return UndoMigration202JSONResponse{a}, err
}

// VerifyMigration implements verifyMigration.
func (s *server) VerifyMigration(ctx context.Context, r VerifyMigrationRequestObject) (VerifyMigrationResponseObject, error) {
	o := engine.Order{Kind: model.OperationKindVerify}
	if r.Body != nil {
		o.Args.AgainstSource = r.Body.AgainstSource
	}
	a, err := s.order(ctx, r.ID, r.Params.IdempotencyKey, r.Params.IfMatch, o)
	return VerifyMigration202JSONResponse{a}, err
}

// TestMigration implements testMigration.
func (s *server) TestMigration(ctx context.Context, r TestMigrationRequestObject) (TestMigrationResponseObject, error) {
	o := engine.Order{Kind: model.OperationKindTest}
	if r.Body != nil {
		o.Args.Test = *r.Body
	}
	a, err := s.order(ctx, r.ID, r.Params.IdempotencyKey, r.Params.IfMatch, o)
	return TestMigration202JSONResponse{a}, err
}

// ReadOperation implements readOperation.
func (s *server) ReadOperation(ctx context.Context, r ReadOperationRequestObject) (ReadOperationResponseObject, error) {
	id, _, _ := strings.Cut(r.Operation, ".")
	m, err := s.Engine.View(ctx, id)
	if err != nil && !errors.Is(err, engine.ErrUnknown) {
		return nil, err
	}
	i := slices.IndexFunc(m.Operations, func(o model.Operation) bool { return o.ID == r.Operation })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s", errNoOperation, r.Operation)
	}
	return operationAnswer(m.Operations[i]), nil
}

// operationAnswer is an operation, with when to ask again while it is not done.
type operationAnswer model.Operation

// VisitReadOperationResponse implements ReadOperationResponseObject.
func (o operationAnswer) VisitReadOperationResponse(w http.ResponseWriter) error {
	if !o.Done {
		w.Header().Set("Retry-After", strconv.Itoa(askAgain))
	}
	return asJSON{value: model.Operation(o)}.write(w)
}
