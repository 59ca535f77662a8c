package api

import (
	"errors"
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/auth"
)

// check is what every operation's request passes through: what it needs by the
// description, and whether it is as described.
func (s *server) check(needs map[string]need) (echo.MiddlewareFunc, error) {
	router, err := gorillamux.NewRouter(s.doc)
	if err != nil {
		return nil, fmt.Errorf("the API's description: %w", err)
	}
	options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, ExcludeRequestBody: false}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			route, params, err := router.FindRoute(r)
			if err != nil {
				return echo.ErrNotFound
			}
			if err := needs[route.Operation.OperationID].allow(principal(r.Context())); err != nil {
				return err
			}
			in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
			if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
				return err
			}
			return next(c)
		}
	}, nil
}

// needs are what the operations ask for, by their IDs. One that says nothing is refused
// before the server starts.
func needs(doc *openapi3.T) (map[string]need, error) {
	all := map[string]need{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			n, err := needOf(op)
			if err != nil {
				return nil, fmt.Errorf("the API's description of %s %s: %w", method, path, err)
			}
			all[op.OperationID] = n
		}
	}
	return all, nil
}

func needOf(op *openapi3.Operation) (n need, err error) {
	role, _ := op.Extensions["x-role"].(string)
	if role == "none" {
		return need{open: true}, nil
	}
	if n.role, err = auth.ParseRole(role); err != nil {
		return n, err
	}
	scope, _ := op.Extensions["x-scope"].(string)
	if n.scope, err = auth.ParseScope(scope); err != nil {
		return n, err
	}
	return n, nil
}

// reason is the innermost of what a check has to say, without what it looked at: that
// may be a secret.
func reason(err error) string {
	if e, ok := errors.AsType[*openapi3.SchemaError](err); ok {
		where := strings.Join(e.JSONPointer(), ".")
		if where != "" {
			where += ": "
		}
		return where + e.Reason
	}
	if e, ok := errors.AsType[*openapi3filter.ParseError](err); ok {
		return "it cannot be read: " + e.Reason
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}
