package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/collector/jsontree"
)

func compile(t testing.TB, text string) (*Schema, []Problem) {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	return Compile(document)
}

func parse(t testing.TB, text string) jsontree.Value {
	t.Helper()
	var tree jsontree.Tree
	if err := tree.Parse(text); err != nil {
		t.Fatal(err)
	}
	return tree.Root()
}

const order = `{
	"type": "object",
	"required": ["order_id", "total"],
	"properties": {
		"order_id": {"type": "string", "pattern": "^o-[0-9]+$"},
		"total": {"type": "number", "minimum": 0},
		"currency": {"enum": ["EUR", "USD"]},
		"placed": {"type": "string", "format": "date"},
		"items": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/item"}},
		"gift": {"oneOf": [{"type": "boolean"}, {"type": "object", "required": ["to"]}]}
	},
	"dependentRequired": {"currency": ["rate"]},
	"patternProperties": {"^x_": {"type": "integer"}},
	"$defs": {"item": {"type": "object", "required": ["sku"], "additionalProperties": false, "properties": {"sku": {"type": "string"}}}}
}`

// TestValidate: what is reported, in the schema's words alone.
func TestValidate(t *testing.T) {
	s, problems := compile(t, order)
	if problems != nil {
		t.Fatal(problems)
	}
	for value, want := range map[string]string{
		`{"order_id":"o-1","total":1.5}`:                                           "",
		`{"order_id":"o-1","total":1,"items":[{"sku":"a"}],"x_a":3,"other":true}`:  "",
		`{"order_id":"o-1","total":1,"gift":{"to":"x"},"currency":"EUR","rate":1}`: "",
		`{}`:                                     "order_id required, total required",
		`{"order_id":"secret","total":"secret"}`: "order_id pattern, total type",
		`{"order_id":"o-1","total":-1}`:          "total minimum",
		`{"order_id":"o-1","total":1,"currency":"secret","rate":1}`:                                      "currency enum",
		`{"order_id":"o-1","total":1,"currency":"EUR"}`:                                                  "rate dependentRequired",
		`{"order_id":"o-1","total":1,"placed":"secret"}`:                                                 "placed format",
		`{"order_id":"o-1","total":1,"items":[{"sku":1},{}]}`:                                            "items[].sku required, items[].sku type",
		`{"order_id":"o-1","total":1,"items":[{"sku":"a","secret":1}]}`:                                  "items[].* additionalProperties",
		`{"order_id":"o-1","total":1,"items":[1,2,3,4]}`:                                                 "items maxItems, items[] type",
		`{"order_id":"o-1","total":1,"x_secret":"s"}`:                                                    "* type",
		`{"order_id":"o-1","total":1,"gift":"secret"}`:                                                   "gift oneOf",
		`{"order_id":"o-1","total":1e999}`:                                                               " too large a number",
		`{"order_id":"o-1","total":1e99999999}`:                                                          " too large a number",
		`{"order_id":"o-1","total":1,"a":"` + strings.Repeat("x", maxText+1) + `"}`:                      " too long a text",
		`{"order_id":"o-1","total":1,"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`: " too many values or levels",
		`{"order_id":"o-1","total":1,"a":[` + strings.Repeat("0,", maxValues) + `0]}`:                    " too many values or levels",
		`{"order_id":"o-1","total":123456789012345678901234567890}`:                                      "",
	} {
		var told []string
		for _, v := range s.Validate(parse(t, value)) {
			told = append(told, v.Path+" "+v.Rule)
		}
		if got := strings.Join(told, ", "); got != want {
			t.Errorf("%.90s: %q, want %q", value, got, want)
		}
	}
	if got := s.Validate(jsontree.Value{}); len(got) != 2 {
		t.Errorf("what is missing lacks %v", got)
	}
}

// TestCompileRefuses: each mistake with its place.
func TestCompileRefuses(t *testing.T) {
	deep := `{"type":"object"}`
	for range 40 {
		deep = `{"properties":{"a":` + deep + `}}`
	}
	doubling := `"d0": {"type": "string"}`
	for i := range 12 {
		doubling += fmt.Sprintf(`, "d%d": {"allOf": [{"$ref": "#/$defs/d%d"}, {"$ref": "#/$defs/d%d"}]}`, i+1, i, i)
	}
	for text, want := range map[string]string{
		`{"requierd": ["a"]}`:                                                          `requierd: unknown keyword "requierd"`,
		`{"properties": {"a": {"tpye": "string"}}}`:                                    `properties.a.tpye: unknown keyword`,
		`{"type": "text"}`:                                                             `type: not a JSON Schema`,
		`{"minimum": "3"}`:                                                             `minimum: not a JSON Schema`,
		`{"properties": {"a": 3}}`:                                                     `properties.a: not a JSON Schema`,
		`{"properties": {"a": {"pattern": "(?=x)"}}}`:                                  `properties.a.pattern: not a regular expression of RE2`,
		`{"properties": {"a": {"pattern": "(((a{9}){9}){9}){9}"}}}`:                    `properties.a.pattern: `,
		`{"patternProperties": {"(": {}}}`:                                             `patternProperties.(: not a regular expression`,
		`{"properties": {"a": {"format": "emial"}}}`:                                   `properties.a.format: unknown format "emial"`,
		`{"$ref": "https://example.com/schema.json"}`:                                  `$ref: a reference must be to #/$defs/NAME`,
		`{"properties": {"a": {"$ref": "file:///etc/passwd"}}}`:                        `properties.a.$ref: a reference must be to`,
		`{"properties": {"a": {"$ref": "#"}}}`:                                         `properties.a.$ref: a reference must be to`,
		`{"$ref": "#/$defs/a"}`:                                                        `$ref: there is no "a" in $defs`,
		`{"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}`:      `$defs.a.items.$ref: "a" refers to itself`,
		`{"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}}}`: `refers to itself`,
		`{"$id": "https://example.com/", "type": "object"}`:                            `$id: unknown keyword`,
		`{"$schema": "http://json-schema.org/draft-04/schema#"}`:                       `$schema: unknown keyword`,
		`{"$dynamicRef": "#a"}`:                                                        `$dynamicRef: unknown keyword`,
		`{"required": ["a"], "properties": {"a": false}}`:                              `required.0: "a" is required and not allowed`,
		`{"required": ["a"], "additionalProperties": false}`:                           `required.0: "a" is required and not allowed`,
		`{"$ref": "#/$defs/d12", "$defs": {` + doubling + `}}`:                         `: the schema is too large`,
		deep: `nested too deeply`,
	} {
		s, problems := compile(t, text)
		var told []string
		for _, p := range problems {
			told = append(told, strings.Join(p.Path, ".")+": "+p.Message)
		}
		if s != nil || !strings.Contains(strings.Join(told, "\n"), want) {
			t.Errorf("%.80s: %q, want %q", text, told, want)
		}
	}
	for _, v := range []any{map[any]any{1: 2}, struct{}{}} {
		if _, problems := Compile(map[string]any{"const": v}); len(problems) != 1 || problems[0].Path[0] != "const" {
			t.Errorf("%T: %v", v, problems)
		}
	}
}

func TestNames(t *testing.T) {
	s, problems := compile(t, `{"properties":{"a":{"properties":{"inner":{}}}},"required":["b"],"patternProperties":{"^x_":{}},
		"allOf":[{"properties":{"c":{}}},{"$ref":"#/$defs/more"}],"not":{"properties":{"n":{}}},"$defs":{"more":{"properties":{"d":{}}},"unused":{"properties":{"u":{}}}}}`)
	if problems != nil {
		t.Fatal(problems)
	}
	var named []string
	for _, name := range []string{"a", "b", "c", "d", "inner", "n", "u", "x_1", "y"} {
		if s.Names(name) {
			named = append(named, name)
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "x_1"}, named); diff != "" {
		t.Error(diff)
	}
}

// FuzzCompile: whatever a plan says and whatever an event holds, there is no
// panic, and what is told of the event holds nothing of it.
func FuzzCompile(f *testing.F) {
	f.Add(order, `{"order_id":"canary"}`)
	f.Add(`{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}`, `{}`)
	f.Add(`{"anyOf":[true,false],"if":{"minProperties":1},"then":{"propertyNames":{"pattern":"a|b"}},"else":false}`, `{"canary":[1e308,-1e-308]}`)
	f.Add(`{"properties":{"a":{"uniqueItems":true,"contains":{"const":3},"prefixItems":[{"multipleOf":0.1}]}}}`, `{"a":[1,1,0.3]}`)
	f.Fuzz(func(t *testing.T, schema, value string) {
		var document map[string]any
		var tree jsontree.Tree
		if json.Unmarshal([]byte(schema), &document) != nil || tree.Parse(value) != nil || tree.Root().Kind() != jsontree.Object {
			return
		}
		s, problems := Compile(document)
		if (s == nil) == (problems == nil) {
			t.Fatalf("a schema %v, problems %v", s != nil, problems)
		}
		if s == nil {
			return
		}
		if found := s.validate(tree.Root()); found != nil && s.quick.accepts(tree.Root()) {
			t.Fatalf("accepted in haste: %v", found)
		}
		first := s.Validate(tree.Root())
		for _, v := range first {
			if len(v.Path) > maxPath || strings.Contains(v.Path, "canary") && !strings.Contains(schema, "canary") {
				t.Fatalf("the path is %q", v.Path)
			}
		}
		if diff := cmp.Diff(first, s.Validate(tree.Root())); diff != "" {
			t.Fatalf("the second time: %s", diff)
		}
	})
}

// TestQuick: the shorter way accepts what it should, or it would be of no use,
// and nothing that the library does not.
func TestQuick(t *testing.T) {
	for _, test := range []struct {
		schema, value string
		accepts       bool
	}{
		{`{"type":"object","required":["a"],"properties":{"a":{"type":"string","minLength":1,"maxLength":3,"pattern":"^x"}}}`, `{"a":"xy","b":[1,{}]}`, true},
		{`{"properties":{"a":{"maxLength":2}}}`, `{"a":"éé"}`, false}, // valid, and not sure
		{`{"properties":{"a":{"type":"integer","minimum":0,"maximum":10}}}`, `{"a":10}`, true},
		{`{"properties":{"a":{"type":"integer"}}}`, `{"a":1.0}`, false}, // valid, and not sure
		{`{"properties":{"a":{"type":"integer"}}}`, `{"a":1.5}`, false},
		{`{"properties":{"a":{"minimum":0.1}}}`, `{"a":0.1}`, false}, // valid, and not sure
		{`{"properties":{"a":{"minimum":0.1}}}`, `{"a":0.2}`, true},
		{`{"properties":{"a":{"maximum":9007199254740992}}}`, `{"a":9007199254740993}`, false},
		{`{"properties":{"a":{"maximum":10}}}`, `{"a":11}`, false},
		{`{"properties":{"a":{"enum":["x","y"]}}}`, `{"a":"y"}`, true},
		{`{"properties":{"a":{"enum":["x","y"]}}}`, `{"a":"z"}`, false},
		{`{"properties":{"a":{"const":"x"}}}`, `{"a":1}`, false},
		{`{"properties":{"a":{"enum":[1]}}}`, `{"a":1}`, false}, // valid, and not sure
		{`{"properties":{"a":{"type":"array","items":{"$ref":"#/$defs/n"}}},"$defs":{"n":{"type":"number"}}}`, `{"a":[1,2.5]}`, true},
		{`{"properties":{"a":{"type":"array","items":{"$ref":"#/$defs/n"}}},"$defs":{"n":{"type":"number"}}}`, `{"a":[1,"2"]}`, false},
		{`{"allOf":[{"required":["a"]},{"required":["b"]}]}`, `{"a":1,"b":null}`, true},
		{`{"allOf":[{"required":["a"]},{"required":["b"]}]}`, `{"a":1}`, false},
		{`{"additionalProperties":false,"properties":{"a":true}}`, `{"b":1}`, false},
		{`{"additionalProperties":false,"properties":{"a":{"type":["null","boolean"]}}}`, `{"a":null}`, true},
		{`{"properties":{"a":{"format":"date"}}}`, `{"a":"2026-02-28"}`, true},
		{`{"properties":{"a":{"format":"date"}}}`, `{"a":"2026-02-30"}`, false},
		{`{"not":{"required":["a"]}}`, `{}`, false}, // valid, and not sure
		{`{}`, `{"a":1e999}`, false},
		{`{}`, `{"a":"` + strings.Repeat("x", maxText+1) + `"}`, false},
		{`{}`, strings.Repeat(`{"a":`, maxDepth) + "1" + strings.Repeat("}", maxDepth), true},
		{`{}`, strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1), false},
		{`{}`, `{"a":[0` + strings.Repeat(",0", maxValues-2) + `]}`, true},
		{`{}`, `{"a":[0` + strings.Repeat(",0", maxValues-1) + `]}`, false},
	} {
		s, problems := compile(t, test.schema)
		if problems != nil {
			t.Fatal(problems)
		}
		v := parse(t, test.value)
		if got := s.quick.accepts(v); got != test.accepts {
			t.Errorf("%s: %.60s: accepted %v", test.schema, test.value, got)
		}
		if found := s.validate(v); found != nil && test.accepts {
			t.Errorf("%s: %.60s: the library finds %v", test.schema, test.value, found)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	s, problems := compile(b, `{"type": "object", "required": ["order_id", "total"], "properties": {
		"order_id": {"type": "string", "pattern": "^o-[0-9]+$"}, "total": {"type": "number", "minimum": 0},
		"currency": {"enum": ["EUR", "USD"]}, "placed": {"type": "string", "format": "date"},
		"items": {"type": "array", "items": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}}}}`)
	if problems != nil {
		b.Fatal(problems)
	}
	v := parse(b, `{"order_id":"o-123","total":12.5,"currency":"EUR","rate":1,"placed":"2026-03-01","items":[{"sku":"S-1"},{"sku":"S-2"}],"coupon":"x","note":"plain words plain words"}`)
	for name, validate := range map[string]func(jsontree.Value) []Violation{"Validate": s.Validate, "library alone": s.validate} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if validate(v) != nil {
					b.Fatal("invalid")
				}
			}
		})
	}
}
