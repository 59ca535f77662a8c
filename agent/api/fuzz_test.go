package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

// hurl sends a request, and holds what is answered to what every answer has to be: no
// fault of the appliance's, problems that fit the description, and what is described.
func (h *harness) hurl(t *testing.T, r *http.Request, problem *openapi3.Schema) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	r = r.WithContext(ctx)
	r.Body = io.NopCloser(bytes.NewReader(sent))
	w := httptest.NewRecorder()
	h.Config.Handler.ServeHTTP(&deadlines{ResponseWriter: w}, r)
	reply := w.Result()
	told := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s %s %v %.300q answers %d %.500s: "+format, append([]any{r.Method, r.URL, r.Header, sent, w.Code, w.Body}, args...)...)
	}
	var v map[string]any
	switch {
	case w.Code >= 500:
		told("that is a fault")
	case w.Code >= 400 && r.Method != http.MethodHead:
		if kind := reply.Header.Get("Content-Type"); kind != "application/problem+json" {
			told("it is %s", kind)
		} else if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			told("%v", err)
		} else if err := problem.VisitJSON(v); err != nil || v["code"] == "" || v["title"] == "" || v["status"] != float64(w.Code) {
			told("the problem is not as described: %v", err)
		}
	case w.Code < 300 && r.Method != http.MethodHead:
		h.hold(t, r, reply, w.Body.Bytes())
	}
	return w.Code
}

// TestWhateverIsSentIsAnswered: 1800 requests that are broken somewhere, and five times as
// many where there is time.
func TestWhateverIsSentIsAnswered(t *testing.T) {
	h := newHarness(t, done)
	doc := described(t)
	statuses, requests := map[int]int{}, uint64(1800)
	if os.Getenv("NEED_VMS") == "matrix" {
		requests *= 5
	}
	for seed := range requests {
		statuses[h.hurl(t, newFuzzer(doc, seed).request(h.tokens), doc.Components.Schemas["Problem"].Value)]++
	}
	t.Log(statuses)
	for _, status := range []int{200, 201, 202, 204, 400, 401, 403, 404, 422} {
		if statuses[status] < 1 {
			t.Errorf("%d is answered %d times: the requests are not varied", status, statuses[status])
		}
	}
}

// TestNoNameIsTooLong asks for everything by names that nothing has, and that would have
// what keeps the migrations end the connection: afterwards it is still there.
func TestNoNameIsTooLong(t *testing.T) {
	h := newHarness(t, done)
	doc := described(t)
	h.want(t, "socket", "POST", "/migrations", map[string]any{"id": "there", "spec": request("done.vmx")["spec"]}, 202, "")
	long := strings.Repeat("0", 70000)
	for path, item := range doc.Paths.Map() {
		if !braces.MatchString(path) {
			continue
		}
		for method := range item.Operations() {
			for _, at := range []string{braces.ReplaceAllString(path, long), braces.ReplaceAllString(strings.Replace(path, "{id}", "there", 1), long)} {
				h.ask(t, "socket", method, at, nil)
				if err := h.engine.Ready(t.Context()); err != nil {
					t.Fatalf("after %s of %.300s: %v", method, at, err)
				}
			}
		}
	}
}

var braces = regexp.MustCompile(`\{[a-z]+\}`)

func FuzzRequests(f *testing.F) {
	doc := described(f)
	h := newHarness(f, done)
	for seed := range uint64(16) {
		f.Add(binary.LittleEndian.AppendUint64(nil, seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var seed [8]byte
		copy(seed[:], data)
		h.hurl(t, newFuzzer(doc, binary.LittleEndian.Uint64(seed[:])).request(h.tokens), doc.Components.Schemas["Problem"].Value)
	})
}
