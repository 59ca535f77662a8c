package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/api/model"
	"hyper2kvm/agent/auth"
	"hyper2kvm/agent/engine"
)

// audited records every request that asks for a change: who asked for which operation at
// which path, and how it ended. What the gate records of it is not recorded again, and
// what was sent not at all.
func (s *server) audited(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, operation := c.Request(), wanted(c).operation()
		if operation == "" || r.Method == http.MethodGet || r.Method == http.MethodHead {
			return next(c)
		}
		c.SetRequest(r.WithContext(auth.Once(r.Context())))
		err := http.ErrAbortHandler // as long as the handler has not come to its end
		defer func() {
			if c.Get(partKey) == nil {
				s.Gate.Note(c.Request().Context(), entry(c, operation, err))
			}
		}()
		err = next(c)
		return err
	}
}

func entry(c echo.Context, operation string, err error) auth.Entry {
	r := c.Request()
	e := auth.Entry{Principal: principal(r.Context()), Action: operation, Target: r.URL.Path, Outcome: auth.Done}
	if e.Principal.From == "" {
		e.Principal = withOrigin(e.Principal, from(c))
	}
	if err == nil {
		return e
	}
	p := problem(err)
	e.Outcome, e.Detail = auth.Refused, p.Code
	if p.Status >= http.StatusInternalServerError {
		e.Outcome = auth.Failed
	}
	return e
}

// ListAudit implements listAudit.
func (s *server) ListAudit(ctx context.Context, r ListAuditRequestObject) (ListAuditResponseObject, error) {
	before, err := strconv.ParseUint("0"+r.Params.Cursor, 10, 64)
	if err != nil {
		return nil, err
	}
	list, err := s.Engine.Audited(ctx, before, r.Params.Limit)
	if err != nil {
		return nil, err
	}
	answer := ListAudit200JSONResponse{Items: []model.AuditEntry{}}
	for _, n := range list {
		e, err := auditEntry(n)
		if err != nil {
			return nil, err
		}
		answer.Items = append(answer.Items, e)
	}
	if len(list) == r.Params.Limit && list[len(list)-1].Number > 1 {
		answer.Next = strconv.FormatUint(list[len(list)-1].Number, 10)
	}
	return answer, nil
}

func auditEntry(n engine.Numbered) (model.AuditEntry, error) {
	var e auth.Entry
	if err := json.Unmarshal(n.JSON, &e); err != nil {
		return model.AuditEntry{}, fmt.Errorf("entry %d of the audit log: %w", n.Number, err)
	}
	m := model.AuditEntry{Number: int64(n.Number), Time: e.Time, Name: e.Principal.Name, By: model.By(e.Principal.By), Scopes: scopes(e.Principal.Scopes),
		From: e.From, Action: e.Action, Target: e.Target, Outcome: model.AuditEntryOutcome(e.Outcome), Detail: e.Detail}
	if e.Principal.Role != auth.Nobody {
		m.Role = model.Role(e.Principal.Role.String())
	}
	return m, nil
}
