package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/engine"
	"hyper2kvm/agent/spec"
	"hyper2kvm/agent/worker"
	"hyper2kvm/fixers"
)

// errSpec is a spec that asks for what cannot be.
var errSpec = errors.New("the spec cannot be used")

// ListMigrations implements listMigrations.
func (s *server) ListMigrations(_ context.Context, r ListMigrationsRequestObject) (ListMigrationsResponseObject, error) {
	name := strings.ToLower(r.Params.Name)
	page := s.Engine.List(func(m *model.Migration) bool {
		return strings.Contains(strings.ToLower(m.Name), name) && (r.Params.Batch == "" || m.Batch == r.Params.Batch) && (len(r.Params.State) == 0 || slices.Contains(r.Params.State, m.State))
	}, r.Params.Cursor, r.Params.Limit)
	return ListMigrations200JSONResponse{Items: page.Items, Next: page.Next}, nil
}

// CreateMigration implements createMigration.
func (s *server) CreateMigration(ctx context.Context, r CreateMigrationRequestObject) (CreateMigrationResponseObject, error) {
	if err := s.checkSpec(r.Body.Spec); err != nil {
		return nil, err
	}
	plan, err := given(r.Body)
	if err != nil {
		return nil, err
	}
	by, name := principal(ctx).Name, worker.Name(r.Body.Spec)
	if r.Params.ValidateOnly {
		return CreateMigration200JSONResponse(engine.Draft(r.Body.ID, r.Body.Spec, name, by)), nil
	}
	m, err := s.submit(ctx, r, plan, name, by)
	if err != nil {
		return nil, err
	}
	return CreateMigration202JSONResponse{accepted(m.Operations[0])}, nil
}

func (s *server) submit(ctx context.Context, r CreateMigrationRequestObject, plan []byte, name, by string) (engine.Record, error) {
	key := key(ctx, r.Params.IdempotencyKey)
	if plan == nil {
		return s.Engine.Submit(ctx, r.Body.ID, r.Body.Spec, name, by, key)
	}
	return s.Engine.SubmitWith(ctx, r.Body.ID, r.Body.Spec, plan, name, by, key)
}

// given is the plan that a request has, as the pipeline writes it: its digest is then
// that of the plan that the migration shows. It is nil if there is none.
func given(r *model.MigrationRequest) ([]byte, error) {
	if r.Plan == nil {
		return nil, nil
	}
	if spec.Looks(r.Spec) || r.Spec.Mode == model.ModeTest {
		return nil, fmt.Errorf("%w: a plan is for the modes migrate and rehearse, and is not applied by %s", errSpec, r.Spec.Mode)
	}
	p, err := fixers.Parse(r.Plan)
	if err != nil {
		return nil, fmt.Errorf("%w: the plan %w", errSpec, err)
	}
	return json.Marshal(p)
}

// checkSpec tells whether what a spec asks for could be done somewhere.
func (s *server) checkSpec(v model.Spec) error {
	var wrong []string
	for _, p := range spec.Check(v) {
		wrong = append(wrong, strings.Join(p.Path, ".")+" "+p.Words)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", errSpec, strings.Join(wrong, "; "))
	}
	return s.offered(engine.Uses(v))
}

// offered tells whether some appliance reaches each of what is used.
func (s *server) offered(uses []string) error {
	for _, use := range uses {
		kind, name, _ := strings.Cut(use, ":")
		there, what := s.Engine.Storages(), "has a storage"
		switch kind {
		case "vsphere":
			there, what = s.Engine.Servers(), "has in its settings a vSphere server"
		case "disk":
			if !slices.Contains(s.Engine.Disks(), name) {
				as, id, _ := strings.Cut(name, ":")
				return fmt.Errorf("%w: no appliance has the disk %s, chosen as %s: PUT /disks/%s/use chooses it", errSpec, id, as, id)
			}
			continue
		}
		if !slices.Contains(there, name) {
			return fmt.Errorf("%w: no appliance %s that is called %q", errSpec, what, name)
		}
	}
	return nil
}

// ReadMigration implements readMigration.
func (s *server) ReadMigration(ctx context.Context, r ReadMigrationRequestObject) (ReadMigrationResponseObject, error) {
	m, err := s.Engine.View(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return ReadMigration200JSONResponse{Body: m, Headers: ReadMigration200ResponseHeaders{ETag: etag(m.Revision)}}, nil
}

// ChangeSchedule implements changeSchedule.
func (s *server) ChangeSchedule(ctx context.Context, r ChangeScheduleRequestObject) (ChangeScheduleResponseObject, error) {
	revision, err := ifMatch(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	was, err := s.Engine.View(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	was.Spec.Schedule = r.Body.Schedule
	if err := s.checkSpec(was.Spec); err != nil {
		return nil, err
	}
	m, err := s.Engine.Reschedule(ctx, r.ID, r.Body.Schedule, revision)
	if err != nil {
		return nil, err
	}
	return ChangeSchedule200JSONResponse{Body: m.Migration, Headers: ChangeSchedule200ResponseHeaders{ETag: etag(m.Revision)}}, nil
}

// ForgetMigration implements forgetMigration.
func (s *server) ForgetMigration(ctx context.Context, r ForgetMigrationRequestObject) (ForgetMigrationResponseObject, error) {
	revision, err := ifMatch(r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	if err := s.Engine.Forget(ctx, r.ID, revision); err != nil {
		return nil, err
	}
	return ForgetMigration204Response{}, nil
}

// etag is a revision's.
func etag(revision int64) string { return fmt.Sprintf("%q", strconv.FormatInt(revision, 10)) }

// ifMatch is the revision that a header asks for; 0 if any will do.
func ifMatch(header string) (int64, error) {
	if header == "" || header == "*" {
		return 0, nil
	}
	text, err := strconv.Unquote(header)
	n, failed := strconv.ParseInt(text, 10, 64)
	if err != nil || failed != nil || n <= 0 {
		return 0, engine.ErrChanged // it is no ETag of ours, so it matches nothing
	}
	return n, nil
}

// key is a request's among those of everybody.
func key(ctx context.Context, header string) string {
	if header == "" {
		return ""
	}
	p := principal(ctx)
	return string(p.By) + "/" + p.Name + "/" + header
}
