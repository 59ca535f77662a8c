package layers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, name, text string) *Value {
	t.Helper()
	v, err := Read(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFilesLieOverOneAnother(t *testing.T) {
	lower := read(t, "a.yaml", "keep: 1\nmap:\n  one: 1\n  two: 2\n  deep: {x: 1, y: 2}\nlist: [1, 2, 3]\ngone: {a: 1}\nwas: {a: 1}\n")
	upper := read(t, "b.yaml", "map:\n  two: zwei\n  three: 3\n  deep: {y: ~}\nlist: [4]\ngone:\nwas: text\nnever: ~\nnew: {a: ~, b: 1}\n")
	got := Over(Over(nil, lower), upper)
	want := map[string]any{
		"keep": int64(1),
		"map":  map[string]any{"one": int64(1), "two": "zwei", "three": int64(3), "deep": map[string]any{"x": int64(1)}},
		"list": []any{int64(4)},
		"was":  "text",
		"new":  map[string]any{"b": int64(1)},
	}
	if diff := cmp.Diff(want, got.Plain()); diff != "" {
		t.Error(diff)
	}
	for path, origin := range map[string]string{"map one": "a.yaml:3", "map two": "b.yaml:2", "map deep x": "a.yaml:5", "list": "b.yaml:5", "list 0": "b.yaml:5", "keep": "a.yaml:1"} {
		if at := got.At(strings.Fields(path)...).Origin.String(); at != origin {
			t.Errorf("%s is of %s, want %s", path, at, origin)
		}
	}
	if fmt.Sprint(lower.Plain()) != fmt.Sprint(read(t, "a.yaml", "keep: 1\nmap:\n  one: 1\n  two: 2\n  deep: {x: 1, y: 2}\nlist: [1, 2, 3]\ngone: {a: 1}\nwas: {a: 1}\n").Plain()) {
		t.Error("the lower file was changed")
	}
}

func TestScalarsAreRead(t *testing.T) {
	got := read(t, "f", "a: off\nb: 0x10\nc: 12\nd: 2026-11-26T20:00:00Z\ne: :8443\nf: 20:00\ng: 1.5\nh: true\ni: 'true'\nj: &x [1]\nk: *x\nl: 18446744073709551615\nm: 2026-11-26\n").Plain()
	want := map[string]any{"a": "off", "b": int64(16), "c": int64(12), "d": "2026-11-26T20:00:00Z", "e": ":8443", "f": "20:00", "g": 1.5,
		"h": true, "i": "true", "j": []any{int64(1)}, "k": []any{int64(1)}, "l": uint64(18446744073709551615), "m": "2026-11-26"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, empty := range []string{"", "# only words\n", "---\n", "~", "{}"} {
		if got := read(t, "f", empty); len(got.Fields) > 0 || got.Fields == nil {
			t.Errorf("%q is %+v, want an empty map", empty, got.Plain())
		}
	}
}

func TestWhatIsNotReadIsToldByLine(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\nb: [1\n":               "f:2: is not YAML: ",
		"a: 1\nb: 'hunter2\n":         "f:2: is not YAML: ",
		"a: 1\nb: c: d\n":             "f:2: is not YAML: ",
		"a: 1\nb: {x: 1,\n  x: 2}":    "f:3: the field x is there twice, first in line 2: remove one",
		"a: &x {b: 1}\nc:\n  <<: *x":  "f:3: merge keys (<<) are not read",
		"a: 1\n---\nb: 2":             "f:2: begins a second document",
		"- a\n- b":                    "f:1: does not begin with a field",
		"word":                        "f:1: does not begin with a field",
		"a: !secret x":                "f:1: has the tag !secret, which is not read",
		"a: !!binary aGk=":            "f:1: has the tag !!binary",
		"a: .nan":                     "f:1: is no finite number",
		"[a]: 1":                      "f:1: a field's name is not text",
		"a: *nothing":                 "f:1: is not YAML: ",
		"a: !!int many":               "f:1: is no value that can be read",
		strings.Repeat("a: {b: ", 40): "f:1: is not YAML: ",
		"a: " + strings.Repeat("[", 40) + strings.Repeat("]", 40): "f:1: is nested deeper than 32",
		"a: &a [*a]": "f:1: is nested deeper than 32",
	} {
		v, err := Read("f", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Read(%.60q) = %v, %v, want %s", text, v, err, want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a value is shown: %v", err)
		}
	}
}

// A file of some hundred bytes that stands for thousands of millions of values.
func TestAnAliasBombIsDefused(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 20 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	began := time.Now()
	if _, err := Read("f", []byte(bomb)); err == nil || !strings.Contains(err.Error(), "aliases") {
		t.Errorf("Read = %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := Read("f", []byte("a: ["+strings.Repeat("1,", 3<<20)+"]")); err == nil || !strings.Contains(err.Error(), "too many values") {
		t.Errorf("Read of three million values = %v", err)
	}
}

func TestOnlyFilesThatEndAreRead(t *testing.T) {
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(folder, "large")
	if err := os.WriteFile(large, []byte("a: 1\n# "+strings.Repeat("x", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{pipe: "is not a file", folder: "is not a file", large: "is larger than 50 bytes", filepath.Join(folder, "none"): "no such file"} {
		if _, err := ReadFile(file, 50); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadFile(%s) = %v, want %s", file, err, want)
		}
	}
	if v, err := ReadFile(large, 200); err != nil || v.Fields["a"].Scalar != int64(1) {
		t.Errorf("ReadFile = %+v, %v", v, err)
	}
}

const schema = `{"type": "object", "additionalProperties": false, "required": ["name"],
"properties": {
  "name": {"$ref": "#/$defs/name"},
  "size": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
  "kind": {"enum": ["small", "large"], "default": "small"},
  "wait": {"type": "string", "pattern": "^[0-9]+s$", "x-wanted": "a time such as 30s"},
  "nodes": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2, "uniqueItems": true},
  "odd": {"oneOf": [{"type": "integer"}, {"type": "boolean"}]},
  "log": {"type": "object", "default": {}, "additionalProperties": false, "properties": {"level": {"type": "string", "default": "info"}}},
  "password": {"type": "string", "pattern": "^[a-z]+$"},
  "some/odd~name": {"type": "string", "maxLength": 3}
},
"$defs": {
  "name": {"type": "string", "description": "of the thing\nand more", "minLength": 1},
  "node": {"type": "object", "properties": {"port": {"type": "integer", "default": 80}}}
}}`

func compile(t *testing.T) *Schema {
	t.Helper()
	s, err := CompileSchema([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFaultsSayWhereWhatAndHow(t *testing.T) {
	s := compile(t)
	for text, want := range map[string]string{
		"size: 1":                                 "f:1: lacks name: of the thing",
		"name: ''":                                "f:1: name: is \"\": write at least 1 characters",
		"name: [a]":                               "f:1: name: is a list of 1: write text",
		"name: {a: 1}":                            "f:1: name: has the fields a: write text",
		"name: a\nsize: 10":                       "f:2: size: is 10: write at most 9",
		"name: a\nsize: 1.5":                      "f:2: size: is 1.5: write a whole number",
		"name: a\nkind: huge":                     "f:2: kind: is \"huge\": write small or large",
		"name: a\nwait: 30":                       "f:2: wait: is 30: write a time such as 30s",
		"name: a\nwait: 30m":                      "f:2: wait: is \"30m\": write a time such as 30s",
		"name: a\nnodes: [{},{a: 1},{b: 1}]":      "f:2: nodes: has 3 entries: write at most 2",
		"name: a\nnodes: [{},{}]":                 "f:2: nodes: the entries 0 and 1 are the same: remove one",
		"name: a\nnodes:\n- {port: 1}\n- port: x": "f:4: nodes[1].port: is \"x\": write a whole number",
		"name: a\nnaem: b":                        "f:2: naem: there is no such field: write name",
		"name: a\nzzz: b":                         "f:2: zzz: there is no such field; there are kind, log, name, nodes, odd, password, size, some/odd~name, wait",
		"name: a\nlog:\n  levle: info":            "f:3: log.levle: there is no such field: write level",
		"name: a\npassword: Hunter2":              "f:2: password: is not what is wanted here: write what matches ^[a-z]+$",
		"name: a\nsome/odd~name: long":            "f:2: \"some/odd~name\": has 4 characters: write at most 3",
		"name: a\n? \"x\\ny\"\n: 1":               "f:2: \"x\\ny\": there is no such field; there are kind, log, name, nodes, odd, password, size, some/odd~name, wait",
	} {
		err := s.Check(Over(nil, read(t, "f", text))).Err()
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n  is %v\nwant %s", text, err, want)
		}
	}
	if err := s.Check(read(t, "f", "name: a\nodd: text")).Err(); err == nil || !strings.Contains(err.Error(), "f:2: odd: ") {
		t.Errorf("odd is %v", err)
	}
}

func TestManyFaultsAreCounted(t *testing.T) {
	text := "name: a\n"
	for i := range 30 {
		text += fmt.Sprintf("unknown%d: 1\n", i)
	}
	err := compile(t).Check(read(t, "f", text)).Err()
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 21 || !strings.HasPrefix(lines[0], "f:2: unknown0: ") || lines[20] != "and 10 faults more" {
		t.Errorf("it says %d lines: %s", len(lines), err)
	}
}

func TestDefaultsAreFilledInAndShown(t *testing.T) {
	v := compile(t).Fill(Over(nil, read(t, "f.yaml", "name: 'no'\nnodes:\n- {}\n- port: 90\nsize: 1\nkind: '5'\n")))
	dump, err := v.Dump()
	if err != nil {
		t.Fatal(err)
	}
	const want = `kind: '5' # f.yaml:6
log:
  level: info # default
name: 'no' # f.yaml:1
nodes:
- port: 80 # default
- port: 90 # f.yaml:4
size: 1 # f.yaml:5
`
	if diff := cmp.Diff(want, dump); diff != "" {
		t.Error(diff)
	}
	again := read(t, "again", dump)
	if diff := cmp.Diff(v.Plain(), again.Plain()); diff != "" {
		t.Errorf("what is dumped is read as something else: %s", diff)
	}
}

func TestASchemaIsWhole(t *testing.T) {
	for _, text := range []string{`{"$ref": "elsewhere.json"}`, `{"$ref": "https://example.org/s.json"}`, `{"type": 5}`, `{`} {
		if _, err := CompileSchema([]byte(text)); err == nil {
			t.Errorf("CompileSchema(%s) went well", text)
		}
	}
}

// What can be read can be dumped, and is then read as the same.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"a: 1\nb: [x, {y: z}]\n", "a: &x 1\nb: *x", "? a\n: b", "a: |\n  text\n", "'\\u0000': ~", "a: \"\\x85\""} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Read("f", data)
		if err != nil {
			return
		}
		v = Over(nil, v)
		dump, err := v.Dump()
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		again, err := Read("again", []byte(dump))
		if err != nil {
			t.Fatalf("%q is dumped as %q: %v", data, dump, err)
		}
		if diff := cmp.Diff(v.Plain(), again.Plain()); diff != "" {
			t.Errorf("%q is dumped as %q: %s", data, dump, diff)
		}
	})
}
