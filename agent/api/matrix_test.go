package api

import (
	"net/http"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"hyper2kvm/agent/auth"
)

// someone is who may ask, with what an operation may need of them.
type someone struct {
	name   string
	role   auth.Role
	by     auth.By
	scopes []auth.Scope // of a token
}

// everyScope holds all.
func everyScope() (all []auth.Scope) {
	for _, r := range auth.Resources {
		all = append(all, auth.Scope(r+":write"))
	}
	return all
}

// everyone are those of the matrix. A token that may write one thing may do nothing else.
func everyone() []someone {
	all := []someone{
		{name: "nobody"},
		{"viewer-token", auth.Viewer, auth.ByToken, everyScope()},
		{"operator-token", auth.Operator, auth.ByToken, everyScope()},
		{"admin-token", auth.Admin, auth.ByToken, everyScope()},
		{"admin-plain", auth.Admin, auth.ByToken, nil},
		{"socket", auth.Admin, auth.BySocket, nil},
	}
	for _, r := range auth.Resources {
		all = append(all, someone{r + "-token", auth.Admin, auth.ByToken, []auth.Scope{auth.Scope(r + ":read")}})
	}
	return all
}

// refusal is the status with which the description has somebody refused; 0 if it does not.
func refusal(op *openapi3.Operation, s someone) int {
	role, _ := op.Extensions["x-role"].(string)
	scope, _ := op.Extensions["x-scope"].(string)
	by, _ := op.Extensions["x-by"].(string)
	needed, err := auth.ParseRole(role)
	switch {
	case role == "none":
		return 0
	case s.role == auth.Nobody:
		return http.StatusUnauthorized
	case err != nil, s.role < needed, by != "" && by != string(s.by), s.by == auth.ByToken && scope != "none" && !holds(s.scopes, auth.Scope(scope)):
		return http.StatusForbidden
	}
	return 0
}

// holds is written anew, beside what decides it: a mistake there is not repeated here.
func holds(scopes []auth.Scope, scope auth.Scope) bool {
	if len(scopes) == 0 {
		return scope != "access:write"
	}
	resource := scope[:slices.Index([]byte(scope), ':')]
	return slices.Contains(scopes, scope) || scope == resource+":read" && slices.Contains(scopes, resource+":write")
}

// own are operations that refuse some whom the description lets through: what they need
// is a session.
var own = []string{"logOut", "changePassword"}

// TestEveryOperationIsForThoseOfTheDescription asks for each operation as everyone,
// without a body and of what is not there: whoever may is told that, and not refused.
func TestEveryOperationIsForThoseOfTheDescription(t *testing.T) {
	h := newHarness(t, done)
	params := map[string]string{"id": "none", "path": "none", "operation": "none.1", "name": "none", "token": "0123456789abcdef0123", "fingerprint": fill("{x}{x}{x}{x}", map[string]string{"x": "0123456789abcdef"}), "secret": "none", "batch": "none", "order": "cancel", "library": "vddk", "appliance": "none", "invitation": "none", "ref": "vm-1", "disk": "none", "download": "none", "file": "none"}
	for _, s := range everyone() {
		if s.by == auth.ByToken {
			token, _, err := h.gate.CreateToken(t.Context(), auth.Local("root", auth.Admin), auth.NewToken{Name: s.name, Role: s.role, Scopes: s.scopes})
			if err != nil {
				t.Fatal(err)
			}
			h.tokens[s.name] = string(token)
		}
		for path, item := range described(t).Paths.Map() {
			for method, op := range item.Operations() {
				query := ""
				if op.OperationID == "followEvents" {
					query = "?from=none" // which does not begin a stream
				}
				a := h.ask(t, s.name, method, fill(path, params)+query, nil)
				want, refused := refusal(op, s), a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
				if want != 0 && a.status != want || want == 0 && refused && !slices.Contains(own, op.OperationID) {
					t.Errorf("%s as %s: %d %.300q, want %d", op.OperationID, s.name, a.status, a.body, want)
				}
			}
		}
	}
}
