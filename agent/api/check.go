package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/labstack/echo/v4"

	"hyper2kvm/agent/auth"
)

// want is what a request asks for, as the description has it. Without a route it is
// nothing that is described.
type want struct {
	route  *routers.Route
	params map[string]string
	need   need
}

// operation is the ID of the one that is asked for; empty if there is none.
func (w want) operation() string {
	if w.route == nil {
		return ""
	}
	return w.route.Operation.OperationID
}

// wantKey is where a request's want is found.
const wantKey = "want"

func wanted(c echo.Context) want {
	w, _ := c.Get(wantKey).(want)
	return w
}

// find finds out what is asked for.
func (s *server) find(needs map[string]need) (echo.MiddlewareFunc, error) {
	router, err := gorillamux.NewRouter(s.doc)
	if err != nil {
		return nil, fmt.Errorf("the API's description: %w", err)
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if route, params, err := router.FindRoute(whole(c)); err == nil {
				c.Set(wantKey, want{route, params, needs[route.Operation.OperationID]})
			}
			return next(c)
		}
	}, nil
}

// whole is a request as a description can have it: where its path ends with one of a
// file, that is one word.
func whole(c echo.Context) *http.Request {
	r := c.Request()
	if !strings.HasSuffix(c.Path(), "/*") {
		return r
	}
	at, rest := r.URL.EscapedPath(), c.Param("*")
	if r.URL.RawPath == "" { // echo leaves what was escaped as it is
		rest = (&url.URL{Path: rest}).EscapedPath()
	}
	r = r.Clone(r.Context())
	r.URL.RawPath = strings.TrimSuffix(at, rest) + strings.ReplaceAll(rest, "/", "%2F")
	return r
}

// checked lets an operation's request through if whoever sent it may do that, and it is
// as described.
func checked(next echo.HandlerFunc) echo.HandlerFunc {
	options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, ExcludeRequestBody: false}
	return func(c echo.Context) error {
		r, w := c.Request(), wanted(c)
		if w.route == nil {
			return echo.ErrNotFound
		}
		if err := w.need.allow(principal(r.Context())); err != nil {
			return err
		}
		in := &openapi3filter.RequestValidationInput{Request: r, PathParams: w.params, Route: w.route, Options: options}
		if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
			return err
		}
		return next(c)
	}
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
	by, _ := op.Extensions["x-by"].(string)
	n.by = auth.By(by)
	scope, _ := op.Extensions["x-scope"].(string)
	if scope == "none" {
		return n, nil
	}
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
		return where + fault(e.Reason)
	}
	if e, ok := errors.AsType[*openapi3filter.ParseError](err); ok {
		return "it cannot be read: " + e.Reason
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// What a schema's check says of a parameter: that it failed, what it looked at, and what
// is wrong with that; and of a date in a body.
//
// Source: jsonschema v6, ValidationError.Error and package kind; kin-openapi,
// newSchemaError of a format.
var (
	faultHead    = regexp.MustCompile(`(?s)^.*jsonschema validation failed with '[^']*'\n- at '[^']*': `)
	faultPattern = regexp.MustCompile(`(?s)^'.*' does not match pattern `)
	faultFormat  = regexp.MustCompile(`(?s) \(string doesn't match pattern .*$`)
)

// fault is what a schema's check says, in one line.
func fault(said string) string {
	said = faultHead.ReplaceAllString(said, "")
	said = faultPattern.ReplaceAllString(said, "it does not match the pattern ")
	said = faultFormat.ReplaceAllString(said, "")
	text, _, _ := strings.Cut(said, "\n")
	return text
}
