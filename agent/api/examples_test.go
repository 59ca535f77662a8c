package api

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// scene is what an operation needs for being done. The zero value needs nothing.
type scene struct {
	fresh bool // an appliance that nobody has access to
	// set makes what the operation is about.
	set func(t *testing.T, h *harness) props
	// alone calls the operation when it is not called as the others are.
	alone func(t *testing.T, h *harness)
	// cannot is why it is refused here, and where it is done. The refusal is held to the
	// description.
	cannot string
}

// props are what a request is sent with besides its example.
type props struct {
	params  map[string]string // of its path
	body    map[string]any    // in the place of what the example has
	headers []string
	anybody bool // it is sent by nobody, and not over the socket
}

// exampleDigest is the plan's that the description's example approves.
const exampleDigest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// TestEveryOperationIsDoneAsItsExamplesSay sends each example of the description, and
// every operation without one at least once. Each is done, and each reply is held to the
// description.
func TestEveryOperationIsDoneAsItsExamplesSay(t *testing.T) {
	doc := described(t)
	h := newHarness(t, played)
	all := map[string]bool{}
	for _, path := range doc.Paths.InMatchingOrder() {
		for method, op := range doc.Paths.Value(path).Operations() {
			all[op.OperationID] = true
			t.Run(op.OperationID, func(t *testing.T) {
				s, at := scenes[op.OperationID], h
				if s.fresh {
					at = newHarness(t, played)
				}
				s.play(t, at, method, path, op)
			})
		}
	}
	for id := range scenes {
		if !all[id] {
			t.Errorf("there is no operation %s", id)
		}
	}
}

func described(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func (s scene) play(t *testing.T, h *harness, method, path string, op *openapi3.Operation) {
	if s.alone != nil {
		s.alone(t, h)
		return
	}
	bodies := bodiesOf(op)
	if len(bodies) == 0 {
		t.Error("nothing is sent: say in scenes how it is called")
	}
	for name, body := range bodies {
		var p props
		if s.set != nil {
			p = s.set(t, h)
		}
		if fields, ok := body.(map[string]any); ok {
			fields = maps.Clone(fields)
			maps.Copy(fields, p.body)
			body = fields
		}
		as := "socket"
		if p.anybody {
			as = ""
		}
		if a := h.ask(t, as, method, fill(path, p.params), body, p.headers...); a.status/100 != 2 && s.cannot == "" || a.status/100 != 4 && s.cannot != "" {
			t.Errorf("the example %q of %s %s: %d %s", name, method, path, a.status, a.body)
		}
	}
}

// bodiesOf are the JSON examples of an operation's request; nil is of none.
func bodiesOf(op *openapi3.Operation) map[string]any {
	all := map[string]any{}
	if op.RequestBody != nil {
		if media := op.RequestBody.Value.Content["application/json"]; media != nil {
			for name, example := range media.Examples {
				all[name] = example.Value.Value
			}
		}
	}
	if op.RequestBody == nil || !op.RequestBody.Value.Required {
		all["nothing"] = nil
	}
	return all
}

func fill(path string, params map[string]string) string {
	for name, value := range params {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	return path
}

// TestExamplesAreOfTheirSchemas: those of replies too.
func TestExamplesAreOfTheirSchemas(t *testing.T) {
	checked := 0
	hold := func(where string, content openapi3.Content) {
		for kind, media := range content {
			for name, example := range media.Examples {
				checked++
				if err := media.Schema.Value.VisitJSON(example.Value.Value, openapi3.EnableFormatValidation()); err != nil {
					t.Errorf("%s: the example %s of %s: %v", where, name, kind, err)
				}
			}
		}
	}
	for _, item := range described(t).Paths.Map() {
		for _, op := range item.Operations() {
			if op.RequestBody != nil {
				hold(op.OperationID, op.RequestBody.Value.Content)
				if len(bodiesOf(op)) == 0 && op.RequestBody.Value.Content["application/json"] != nil {
					t.Errorf("%s needs a body, and has no example of one", op.OperationID)
				}
			}
			for _, status := range slices.Sorted(mapKeys(op.Responses.Map())) {
				hold(op.OperationID+" "+status, op.Responses.Value(status).Value.Content)
			}
		}
	}
	if checked < 40 {
		t.Errorf("only %d examples were found", checked)
	}
}
