package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp/syntax"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"hyper2kvm/agent/auth"
)

// fuzzer makes requests of the description, and breaks them.
type fuzzer struct {
	*rand.Rand
	doc *openapi3.T
}

func newFuzzer(doc *openapi3.T, seed uint64) fuzzer {
	return fuzzer{rand.New(rand.NewPCG(seed, 0)), doc}
}

// one in n.
func (f fuzzer) one(n int) bool { return f.IntN(n) == 0 }

func pick[T any](f fuzzer, list []T) T { return list[f.IntN(len(list))] }

// nasty are texts that are trouble somewhere.
var nasty = []string{"", " ", ".", "..", "../../etc/passwd", "%2e%2e%2f", "a/b", "a\x00b", "\xff\xfe", "é", "\u202e", strings.Repeat("a", 300), strings.Repeat("0", 70000), "-1", "0", "1e999", "9223372036854775808", "18446744073709551616",
	"null", "true", "{}", "[]", `"`, "*", "'; drop", "$(id)", "\r\nX-Evil: 1", "events.>", "a.*", "W/\"1\"", `"1"`, `"9999"`, "none", "Infinity", "0x10", "2026-11-26T10:00:00Z", "9999-99-99T99:99:99Z"}

// text is like a pattern, or nasty.
func (f fuzzer) text(s *openapi3.Schema) string {
	switch {
	case f.one(8):
		return pick(f, nasty)
	case len(s.Enum) > 0:
		text, _ := pick(f, s.Enum).(string)
		return text
	case s.Pattern != "":
		if re, err := syntax.Parse(s.Pattern, syntax.Perl); err == nil {
			return f.like(re)
		}
	case s.Format == "date-time":
		return time.Unix(f.Int64N(1<<34), 0).UTC().Format(time.RFC3339)
	}
	return pick(f, []string{"none", "kvm", "vmware", "a.vmx", "web01/web01.vmx", "mon-fri 20:00-06:00", "50M", "all", "x"})
}

// like is a text that an expression matches, as far as those of the description go.
func (f fuzzer) like(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		i := 2 * f.IntN(len(re.Rune)/2)
		return string(re.Rune[i] + f.Int32N(min(re.Rune[i+1], 0xffff)-re.Rune[i]+1))
	case syntax.OpConcat, syntax.OpCapture, syntax.OpAlternate:
		subs := re.Sub
		if re.Op == syntax.OpAlternate {
			subs = []*syntax.Regexp{pick(f, subs)}
		}
		text := ""
		for _, sub := range subs {
			text += f.like(sub)
		}
		return text
	case syntax.OpRepeat, syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		text, least, most := "", re.Min, re.Max
		if re.Op == syntax.OpPlus {
			least = 1
		}
		if most <= least {
			most = least + 3
		}
		if re.Op == syntax.OpRepeat && re.Max == re.Min {
			most = least
		}
		for range least + f.IntN(min(most-least, 8)+1) {
			text += f.like(re.Sub[0])
		}
		return text
	}
	return ""
}

// value is one of a schema, mostly.
func (f fuzzer) value(s *openapi3.Schema, deep int) any {
	if f.one(24) || deep > 8 {
		return f.any(3)
	}
	switch {
	case s.Type.Is("object"):
		fields := map[string]any{}
		for name, p := range s.Properties {
			if slices.Contains(s.Required, name) && !f.one(20) || f.one(3) {
				fields[name] = f.value(p.Value, deep+1)
			}
		}
		if f.one(15) {
			fields[pick(f, nasty)] = f.any(2)
		}
		return fields
	case s.Type.Is("array"):
		list := []any{}
		for range f.IntN(4) {
			list = append(list, f.value(s.Items.Value, deep+1))
		}
		return list
	case s.Type.Is("boolean"):
		return f.one(2)
	case s.Type.Is("integer"), s.Type.Is("number"):
		return pick(f, []any{f.IntN(200), 512 * f.IntN(1<<20), -1, 1.5, json.Number("1e400"), json.Number("9223372036854775808"), 0})
	}
	return f.text(s)
}

// any is anything.
func (f fuzzer) any(deep int) any {
	if deep > 0 && f.one(3) {
		return pick(f, []any{[]any{f.any(deep - 1), f.any(deep - 1)}, map[string]any{pick(f, nasty): f.any(deep - 1)}})
	}
	return pick(f, []any{nil, true, -1, 1.5, json.Number("1e400"), pick(f, nasty)})
}

// body is one of an operation, and what it says it is.
func (f fuzzer) body(op *openapi3.Operation) (text []byte, kind string) {
	if op.RequestBody == nil {
		if !f.one(6) {
			return nil, ""
		}
		return []byte(pick(f, nasty)), "application/json"
	}
	kind = pick(f, slices.Sorted(mapKeys(op.RequestBody.Value.Content)))
	text = []byte(pick(f, nasty))
	if examples := op.RequestBody.Value.Content[kind].Examples; len(examples) > 0 && f.one(2) {
		text, _ = json.Marshal(examples[pick(f, slices.Sorted(mapKeys(examples)))].Value.Value)
		if !f.one(10) { // a password that may be used takes half a second
			text = []byte(strings.NewReplacer("four calm badgers hum", "x", "seven quiet otters swim", "x", "nine loud geese run home", "x").Replace(string(text)))
		}
	} else if kind == "application/json" {
		text, _ = json.Marshal(f.value(op.RequestBody.Value.Content[kind].Schema.Value, 0)) // numbers that are none give no text, which is a body too
	}
	if f.one(6) && len(text) > 0 {
		text = slices.Concat(text[:f.IntN(len(text))], []byte(pick(f, nasty)), text[f.IntN(len(text)):])
	}
	if f.one(60) {
		text = []byte(strings.Repeat("[", 10000+f.IntN(100000)))
	}
	if f.one(12) {
		kind = pick(f, []string{"", "text/plain", "application/xml", "application/json; charset=utf-16", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/octet-stream", "a/b/c", "application/json; q"})
	}
	return text, kind
}

// request is one of an operation, sent by somebody.
func (f fuzzer) request(tokens map[string]string) *http.Request {
	path := pick(f, f.doc.Paths.InMatchingOrder())
	item := f.doc.Paths.Value(path)
	method := pick(f, slices.Sorted(mapKeys(item.Operations())))
	op := item.Operations()[method]
	query, headers := url.Values{}, http.Header{}
	for _, ref := range slices.Concat(item.Parameters, op.Parameters) {
		p := ref.Value
		switch value := f.plain(p.Schema.Value); {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", f.escaped(value))
		case p.In == "query" && f.one(2):
			query.Add(p.Name, value)
		case p.In == "header" && f.one(3):
			headers.Set(p.Name, strings.Map(printable, value))
		}
	}
	if f.one(20) {
		method = pick(f, []string{"GET", "HEAD", "PUT", "OPTIONS", "TRACE", "PROPFIND", "x", "DELETE", "PATCH"})
	}
	if f.one(15) {
		path = pick(f, []string{path + "/", "/" + path, path + "/" + f.escaped(pick(f, nasty)), strings.Replace(path, "/", "//", 1), path + ";a=b", "/%00", "/../../metrics"})
	}
	text, kind := f.body(op)
	u := &url.URL{Path: base + path, RawQuery: query.Encode()}
	if plain, err := url.PathUnescape(base + path); err == nil {
		u.Path, u.RawPath = plain, base+path
	}
	if f.one(15) {
		u.RawQuery += "&" + f.escaped(pick(f, nasty)) + "=%zz"
	}
	r := &http.Request{Method: method, URL: u, Header: headers, Host: "appliance", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "192.0.2.7:1", Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)), RequestURI: u.RequestURI()}
	if kind != "" {
		headers.Set("Content-Type", kind)
	}
	f.somebody(r, tokens)
	return r
}

// plain is a parameter's value, as it is written.
func (f fuzzer) plain(s *openapi3.Schema) string {
	switch v := f.value(s, 9-9*f.IntN(2)*f.IntN(2)).(type) { // most are of the schema
	case string:
		return v
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return pick(f, nasty)
		}
		return string(text)
	}
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}

func (f fuzzer) escaped(text string) string {
	if f.one(6) {
		return strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23").Replace(text)
	}
	return url.PathEscape(text)
}

// somebody shows something, of which most counts.
func (f fuzzer) somebody(r *http.Request, tokens map[string]string) {
	switch f.IntN(8) {
	case 0:
	case 1:
		r.Header.Set("Authorization", pick(f, []string{"Bearer", "Basic eDp4", "Bearer h2k_x", "bearer " + tokens["viewer"], "Bearer h2k_" + strings.Repeat("a", 52)}))
	case 2:
		r.Header.Set("Cookie", pick(f, []string{"__Host-session=x", "__Host-session=" + strings.Repeat("a", 32) + "." + strings.Repeat("b", 43), "=", "\xff"}))
	case 3:
		r.Header.Set("Authorization", "Bearer "+tokens["operator"])
	default:
		*r = *r.WithContext(context.WithValue(r.Context(), PeerKey{}, auth.Local("uid-0", auth.Admin)))
	}
	for name, values := range map[string][]string{"Accept": {"text/plain", "a/b", "\xff"}, "Range": {"bytes=0-", "bytes=9-1", "lines=1"}, "Origin": {"https://x", "null"}, "Sec-Fetch-Site": {"cross-site"}, "Expect": {"100-continue"}, "Content-Encoding": {"gzip"}, "X-Request-Id": {strings.Repeat("x", 5000), "\xff"}, "X-Forwarded-For": {"10.0.0.1"}} {
		if f.one(40) {
			r.Header.Set(name, pick(f, values))
		}
	}
}
