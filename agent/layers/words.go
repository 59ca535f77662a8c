package layers

import (
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// unknown tells of a field that a schema has not, and of those that it has.
func unknown(name string, schema map[string]any) string {
	properties, _ := schema["properties"].(map[string]any)
	known := slices.Sorted(maps.Keys(properties))
	if len(known) == 0 {
		return "there is no such field"
	}
	for _, k := range known {
		if distance(strings.ToLower(name), strings.ToLower(k)) <= 2 && len(name) > 2 {
			return fmt.Sprintf("there is no such field: write %s", k)
		}
	}
	return "there is no such field; there are " + strings.Join(known, ", ")
}

// distance is how many letters must be changed, added or left out.
// Source: Levenshtein's distance, by Wagner's and Fischer's table.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// lacks tells of a field that must be there.
func (s *Schema) lacks(name string, schema map[string]any) string {
	properties, _ := schema["properties"].(map[string]any)
	property, _ := properties[name].(map[string]any)
	if about, ok := s.follow(property)["description"].(string); ok {
		return fmt.Sprintf("lacks %s: %s", name, firstLine(about))
	}
	return "lacks " + name
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// words are what the value at a path is, and what is wanted in its place.
func words(k jsonschema.ErrorKind, v *Value, path []string, schema map[string]any) string {
	is, want := shownAs(v.At(path...), path), wanted(k)
	if said, ok := schema["x-wanted"].(string); ok {
		want = said
	} else if about, ok := schema["description"].(string); ok && want == "" {
		want = "this: " + firstLine(about)
	}
	switch k := k.(type) {
	case *kind.Pattern:
		switch {
		case want == "":
			want = "what matches " + k.Want
		case schema["x-wanted"] == nil:
			want += ", which matches " + k.Want
		}
	case *kind.MinItems:
		is = fmt.Sprintf("has %d entries", k.Got)
	case *kind.MaxItems:
		is = fmt.Sprintf("has %d entries", k.Got)
	case *kind.MaxLength:
		is = fmt.Sprintf("has %d characters", k.Got)
	case *kind.UniqueItems:
		return fmt.Sprintf("the entries %d and %d are the same: remove one", k.Duplicates[0], k.Duplicates[1])
	}
	if want == "" {
		return is + ", which cannot be used"
	}
	return is + ": write " + want
}

// private are fields that hold a secret's name or an address, in which people may have
// written the secret: their values are not shown.
var private = regexp.MustCompile(`(?i)secret|password|passphrase|token|url`)

// shownAs is a value in a sentence.
func shownAs(v *Value, path []string) string {
	switch {
	case v.Fields != nil && len(v.Fields) == 0:
		return "has no fields"
	case v.Fields != nil:
		return "has the fields " + strings.Join(v.names(), ", ")
	case v.List != nil:
		return fmt.Sprintf("is a list of %d", len(v.List))
	case v.Scalar == nil:
		return "is empty"
	case len(path) > 0 && private.MatchString(path[len(path)-1]):
		return "is not what is wanted here"
	}
	if text, ok := v.Scalar.(string); ok {
		return fmt.Sprintf("is %.100q", text)
	}
	return fmt.Sprintf("is %v", v.Scalar)
}

// kinds are the words for JSON Schema's types.
var kinds = map[string]string{
	"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
	"array": "a list", "object": "fields", "null": "nothing",
}

// wanted is what a keyword asks for; empty where it cannot be said in a few words.
func wanted(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		var names []string
		for _, name := range k.Want {
			names = append(names, kinds[name])
		}
		return strings.Join(names, " or ")
	case *kind.Enum:
		return oneOf(k.Want)
	case *kind.Const:
		return fmt.Sprint(k.Want)
	case *kind.Format:
		return formats[k.Want]
	case *kind.Minimum:
		return "at least " + number(k.Want)
	case *kind.Maximum:
		return "at most " + number(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("at most %d", k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("at least %d", k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("at most %d", k.Want)
	}
	return ""
}

// formats are the words for JSON Schema's formats that our schemas use.
var formats = map[string]string{
	"date-time": "a time such as 2026-11-26T20:00:00Z",
	"uri":       "an address such as https://example.org/path",
	"email":     "an address such as ops@example.org",
}

func number(n *big.Rat) string { return n.RatString() }

func oneOf(values []any) string {
	var names []string
	for _, v := range values {
		names = append(names, fmt.Sprint(v))
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
