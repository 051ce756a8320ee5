package jsontree

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plainValue is a value as encoding/json would give it, with numbers as text.
func plainValue(v Value) any {
	switch v.Kind() {
	case Missing, Null:
		return nil
	case False, True:
		return v.Kind() == True
	case Number:
		return json.Number(v.Text())
	case String:
		return v.String()
	case Array:
		list := []any{}
		for element := range v.Elements() {
			list = append(list, plainValue(element))
		}
		return list
	case Object:
		object := map[string]any{}
		for name, value := range v.Members() {
			object[name] = plainValue(value)
		}
		return object
	}
	panic("no such kind")
}

func standard(text string) (any, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}
	if rest := bytes.TrimLeft([]byte(text[decoder.InputOffset():]), " \t\r\n"); len(rest) > 0 {
		return nil, errors.New("something follows")
	}
	return v, nil
}

var texts = []string{
	`{}`, `[]`, ` [ ] `, `null`, `true`, `"x"`, `-0`, `1e9`, `[1,2.50,-3E-7,12345678901234567890123]`,
	`{"a":{"b":[{"c":null},[],{}]},"d":""}`, `{"a":1,"b":2,"a":3}`, `{"":0}`,
	`"\"\\\/\b\f\n\r\t"`, `"é\u00e9\ud83d\ude00\ud83d\ud83d\ude00\ud83dx\udc00"`, "\"\xff\xc3\"", `"a\u0000b"`,
	``, ` `, `{`, `}`, `[`, `{"a"}`, `{"a":}`, `{"a":1,}`, `[1,]`, `[,1]`, `[1 2]`, `{1:2}`, `01`, `-`, `1.`, `.5`, `1e`, `+1`, `NaN`,
	`tru`, `nulll`, `"`, `"\"`, `"\x"`, `"\u12g4"`, "\"\n\"", `[1]]`, `{"a":1}{}`, `[}`, `{]`, `[1}`, "\ufeff{}", `'x'`, `{"a":1 "b":2}`,
}

// TestParse holds the tree against encoding/json.
func TestParse(t *testing.T) {
	for _, text := range texts {
		compare(t, text)
	}
}

func compare(t *testing.T, text string) {
	t.Helper()
	var tree Tree
	err := tree.Parse(text)
	want, wantErr := standard(text)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: %v, encoding/json says %v", text, err, wantErr)
	}
	if err != nil {
		if !errors.Is(err, ErrSyntax) || tree.Root().Kind() != Missing {
			t.Fatalf("%q: after the error %v the root is %v", text, err, tree.Root().Kind())
		}
		return
	}
	if diff := cmp.Diff(want, plainValue(tree.Root())); diff != "" {
		t.Fatalf("%q: %s", text, diff)
	}
	if s := tree.Root().String(); tree.Root().Kind() == String {
		var back string
		if err := json.Unmarshal(AppendString(nil, s), &back); err != nil || back != s {
			t.Fatalf("%q is written as %s: %v", s, AppendString(nil, s), err)
		}
	}
	if lower, ok := tree.Root().Lower(); ok && lower != strings.ToLower(tree.Root().Raw()) {
		t.Fatalf("%q: in lower case %q", text, lower)
	} else if ascii := strings.IndexFunc(text, func(r rune) bool { return r > 127 }) < 0; ok != ascii {
		t.Fatalf("%q: whether it is ASCII is %v", text, ok)
	}
	if raw := tree.Root().Raw(); raw != strings.Trim(text, " \t\r\n") {
		t.Fatalf("%q: raw is %q", text, raw)
	}
}

// FuzzParse does the same for any text: no panic, and the same values.
func FuzzParse(f *testing.F) {
	for _, text := range texts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// encoding/json gives up at a depth of 10,000.
		if strings.Count(text, "[")+strings.Count(text, "{") < 10_000 {
			compare(t, text)
		}
	})
}

func TestEqualNames(t *testing.T) {
	const same = `"a":1,`
	for _, n := range []int{2, manyMembers, manyMembers + 1, 1000} {
		var tree Tree
		if err := tree.Parse("{" + strings.Repeat(same, n) + `"a":2,"b":3}`); err != nil {
			t.Fatal(err)
		}
		if got := plainValue(tree.Root()); !cmp.Equal(got, any(map[string]any{"a": json.Number("2"), "b": json.Number("3")})) {
			t.Errorf("%d times the same name: %v", n, got)
		}
		if got := tree.Root().Get("a").Text(); got != "2" {
			t.Errorf("%d times the same name: Get gives %s, not the last", n, got)
		}
	}
}

// TestMissing: what is not there can be asked anything.
func TestMissing(t *testing.T) {
	var tree Tree
	if err := tree.Parse(`{"a":[1],"n":null}`); err != nil {
		t.Fatal(err)
	}
	for _, v := range []Value{{}, tree.Root().Get("x"), tree.Root().Get("a").Get("b"), tree.Root().Get("n").Get("b").Get("c")} {
		if v.Kind() != Missing || !v.IsNull() || v.Text() != "" || v.Raw() != "" || !v.Empty() {
			t.Errorf("a missing value is %v", v.Kind())
		}
		for range v.Members() {
			t.Error("a missing value has members")
		}
	}
}

// TestDepthIsFree: depth costs memory in proportion, and no stack.
func TestDepthIsFree(t *testing.T) {
	const depth = 250_000
	var tree Tree
	if err := tree.Parse(strings.Repeat("[", depth) + strings.Repeat("]", depth)); err != nil {
		t.Fatal(err)
	}
	v, n := tree.Root(), 0
	for ; !v.Empty(); n++ {
		for element := range v.Elements() {
			v = element
		}
	}
	if n != depth-1 {
		t.Errorf("%d levels, want %d", n, depth-1)
	}
}

// TestReuse: a tree that is used again costs nothing, and the strings that it
// gave out stay as they are.
func TestReuse(t *testing.T) {
	var tree Tree
	texts := []string{`{"a":"one","b":[1,2,3],"c":{"d":true}}`, `{"a":"two"}`}
	if err := tree.Parse(texts[0]); err != nil {
		t.Fatal(err)
	}
	first := tree.Root().Get("a").Text()
	allocs := testing.AllocsPerRun(100, func() {
		for _, text := range texts {
			if err := tree.Parse(text); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs != 0 || first != "one" || tree.Root().Get("a").Text() != "two" {
		t.Errorf("%v allocations; %q, then %q", allocs, first, tree.Root().Get("a").Text())
	}
}

func BenchmarkParse(b *testing.B) {
	text := `{"type":"track","event":"Live Chat Started","messageId":"m-1-2-3","anonymousId":"0b7c1f6e-6a31-4f0e-9a55-000000000000",
		"userId":"user-1","timestamp":"2026-03-01T12:00:00.000Z","properties":{"sku":"S-1","text":"` + strings.Repeat("plain words ", 30) + `"},
		"context":{"consent":{"categoryPreferences":{"identity":true,"analytics":true,"marketing":true,"advertising":true}},
		"page":{"url":"https://shop.example/pricing?utm_source=x","path":"/pricing","title":"Pricing"},"library":{"name":"b","version":"1"}}}`
	b.Run("tree", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		var tree Tree
		for b.Loop() {
			if err := tree.Parse(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding/json into a map", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			var v map[string]any
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
