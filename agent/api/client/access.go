package client

import (
	"context"

	"hyper2kvm/agent/api/model"
)

// Page is one page of the migrations that a filter lets through, the newest first.
func (c *Conn) Page(ctx context.Context, filter model.ListMigrationsParams) (model.MigrationList, error) {
	return into[model.MigrationList](c.api.ListMigrations(ctx, &filter))
}

// Users are those with a password.
func (c *Conn) Users(ctx context.Context) ([]model.User, error) {
	list, err := into[struct{ Items []model.User }](c.api.ListUsers(ctx))
	return list.Items, err
}

// Certificates are those of clients that have access.
func (c *Conn) Certificates(ctx context.Context) ([]model.Certificate, error) {
	list, err := into[struct{ Items []model.Certificate }](c.api.ListCertificates(ctx))
	return list.Items, err
}

// Audit is what was done last, the newest first, as many entries as a page has.
func (c *Conn) Audit(ctx context.Context) ([]model.AuditEntry, error) {
	list, err := into[struct{ Items []model.AuditEntry }](c.api.ListAudit(ctx, &model.ListAuditParams{Limit: pageOf}))
	return list.Items, err
}
