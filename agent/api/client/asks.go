package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"hyper2kvm/agent/api/model"
)

// Begin begins a migration. Its operation tells how that goes.
func (c *Conn) Begin(ctx context.Context, r model.MigrationRequest) (model.Operation, error) {
	return into[model.Operation](c.api.CreateMigration(ctx, &model.CreateMigrationParams{IdempotencyKey: newKey()}, r))
}

// Order is something that is asked of a migration that is there.
type Order struct {
	Kind          model.OperationKind
	Digest        model.Digest      // of the plan that is approved
	AgainstSource bool              // of verify
	Test          model.TestRequest // of test
}

// Order has something done to a migration.
func (c *Conn) Order(ctx context.Context, id string, o Order) (model.Operation, error) {
	return into[model.Operation](c.order(ctx, id, o))
}

func (c *Conn) order(ctx context.Context, id string, o Order) (*http.Response, error) {
	key := newKey()
	switch o.Kind {
	case model.OperationKindApprove:
		return c.api.ApprovePlan(ctx, id, &model.ApprovePlanParams{IdempotencyKey: key}, model.ApprovePlanJSONRequestBody{Digest: o.Digest})
	case model.OperationKindPause:
		return c.api.PauseMigration(ctx, id, &model.PauseMigrationParams{IdempotencyKey: key})
	case model.OperationKindResume:
		return c.api.ResumeMigration(ctx, id, &model.ResumeMigrationParams{IdempotencyKey: key})
	case model.OperationKindRetry:
		return c.api.RetryMigration(ctx, id, &model.RetryMigrationParams{IdempotencyKey: key})
	case model.OperationKindCancel:
		return c.api.CancelMigration(ctx, id, &model.CancelMigrationParams{IdempotencyKey: key})
	case model.OperationKindUndo:
		return c.api.UndoMigration(ctx, id, &model.UndoMigrationParams{IdempotencyKey: key})
	case model.OperationKindVerify:
		return c.api.VerifyMigration(ctx, id, &model.VerifyMigrationParams{IdempotencyKey: key}, model.VerifyMigrationJSONRequestBody{AgainstSource: o.AgainstSource})
	case model.OperationKindTest:
		return c.api.TestMigration(ctx, id, &model.TestMigrationParams{IdempotencyKey: key}, o.Test)
	}
	return nil, fmt.Errorf("a migration cannot be asked to %s", o.Kind)
}

// Operation is how an operation stands, and after how long to ask again.
func (c *Conn) Operation(ctx context.Context, id string) (model.Operation, time.Duration, error) {
	reply, err := c.api.ReadOperation(ctx, id)
	if err != nil {
		return model.Operation{}, 0, err
	}
	after := retryAfter(reply.Header)
	o, err := into[model.Operation](reply, nil)
	return o, after, err
}

// Migration is how a migration stands.
func (c *Conn) Migration(ctx context.Context, id string) (model.Migration, error) {
	return into[model.Migration](c.api.ReadMigration(ctx, id))
}

// pageOf is how many migrations are asked for at a time.
const pageOf = 200

// Migrations are those that a filter lets through, the newest first.
func (c *Conn) Migrations(ctx context.Context, filter model.ListMigrationsParams) iter.Seq2[model.Migration, error] {
	filter.Limit = pageOf
	return func(yield func(model.Migration, error) bool) {
		for {
			page, err := into[model.MigrationList](c.api.ListMigrations(ctx, &filter))
			if err != nil {
				yield(model.Migration{}, err)
				return
			}
			for _, m := range page.Items {
				if !yield(m, nil) {
					return
				}
			}
			if filter.Cursor = page.Next; page.Next == "" {
				return
			}
		}
	}
}

// Forget forgets a migration that has ended.
func (c *Conn) Forget(ctx context.Context, id string) error {
	return done(c.api.ForgetMigration(ctx, id, &model.ForgetMigrationParams{}))
}

// done is the error of an answer without content.
func done(reply *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	return refused(reply)
}

// Plan is a migration's plan, the JSON of a fixers.Plan.
func (c *Conn) Plan(ctx context.Context, id string) (json.RawMessage, error) {
	return into[json.RawMessage](c.api.ReadPlan(ctx, id, &model.ReadPlanParams{Accept: "application/json"}))
}

// Facts are what inspection found, as JSON: machine, facts, checks.
func (c *Conn) Facts(ctx context.Context, id string) (json.RawMessage, error) {
	return into[json.RawMessage](c.api.ReadFacts(ctx, id))
}

// Files are those that a migration has made.
func (c *Conn) Files(ctx context.Context, id string) ([]model.File, error) {
	list, err := into[struct{ Items []model.File }](c.api.ListFiles(ctx, id))
	return list.Items, err
}

// Download is a file's content from a byte on. The caller closes it.
func (c *Conn) Download(ctx context.Context, id, path string, from int64) (io.ReadCloser, error) {
	return begun(path, from)(c.api.ReadFile(ctx, id, path, unescaped(path), since(from, "")))
}

// unescaped writes the slashes of a file's path as they are: the generated code writes
// them as parts of one name.
func unescaped(path string) RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		i := strings.LastIndex(r.URL.Path, "/files/")
		r.URL.Path, r.URL.RawPath = r.URL.Path[:i]+"/files/"+path, ""
		return nil
	}
}

func closed(c io.Closer, err error) error {
	if failed := c.Close(); failed != nil {
		return fmt.Errorf("%w (%w)", err, failed)
	}
	return err
}

// Storages are those that are configured.
func (c *Conn) Storages(ctx context.Context) ([]model.Storage, error) {
	list, err := into[struct{ Items []model.Storage }](c.api.ListStorages(ctx))
	return list.Items, err
}

// Appliances are this one and its fellows.
func (c *Conn) Appliances(ctx context.Context) ([]model.Appliance, error) {
	list, err := into[struct{ Items []model.Appliance }](c.api.ListAppliances(ctx))
	return list.Items, err
}

// Host is what the appliance can run virtual machines with.
func (c *Conn) Host(ctx context.Context) (model.Host, error) {
	return into[model.Host](c.api.ReadHost(ctx))
}

// Invite lets one appliance join. The token is shown now and never again.
func (c *Conn) Invite(ctx context.Context, r model.InvitationRequest) (model.InvitationToken, error) {
	return into[model.InvitationToken](c.api.Invite(ctx, r))
}

// Invitations are those that are remembered, the newest first.
func (c *Conn) Invitations(ctx context.Context) ([]model.Invitation, error) {
	list, err := into[struct{ Items []model.Invitation }](c.api.ListInvitations(ctx))
	return list.Items, err
}

// Withdraw makes a token worthless that was not used.
func (c *Conn) Withdraw(ctx context.Context, id string) error {
	return done(c.api.WithdrawInvitation(ctx, id))
}

// RemoveAppliance lets an appliance in no more.
func (c *Conn) RemoveAppliance(ctx context.Context, id string) error {
	return done(c.api.RemoveAppliance(ctx, id))
}

// FirstCode is a new code that makes the first admin. It is given over the Unix socket
// alone, and makes the one before worthless.
func (c *Conn) FirstCode(ctx context.Context) (string, error) {
	made, err := into[struct{ Code string }](c.api.MakeFirstCode(ctx))
	return made.Code, err
}
