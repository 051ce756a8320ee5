package jinja

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// tojson is Jinja's filter: JSON with sorted keys, safe in a page.
func tojson(_ *run, v any, a []any) (any, error) {
	if given(a[0]) && a[0] != nil {
		return nil, errorf("tojson with an indent is not supported here")
	}
	text, err := JSON(v, true)
	if err != nil {
		return nil, err
	}
	return markup(strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`, "'", `\u0027`).Replace(text)), nil
}

// JSON writes a value as Python's json.dumps does.
func JSON(v any, sortKeys bool) (string, error) {
	var b strings.Builder
	err := writeJSON(&b, v, sortKeys, new(walk))
	return b.String(), err
}

func writeJSON(b *strings.Builder, v any, sortKeys bool, w *walk) error {
	if err := w.enter(); err != nil {
		return err
	}
	defer w.leave()
	if b.Len() > maxText {
		return errTooLong
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		fmt.Fprint(b, v)
	case int:
		fmt.Fprint(b, v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return errorf("%s is no JSON", floatText(v))
		}
		b.WriteString(floatText(v))
	case string:
		writeJSONText(b, v)
	case markup:
		writeJSONText(b, string(v))
	case *List:
		return writeJSONList(b, v.Items, sortKeys, w)
	case Tuple:
		return writeJSONList(b, v, sortKeys, w)
	case *Dict:
		return writeJSONDict(b, v, sortKeys, w)
	default:
		return errorf("a %s is no JSON", typeName(v))
	}
	return nil
}

func writeJSONList(b *strings.Builder, items []any, sortKeys bool, w *walk) error {
	b.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		if err := writeJSON(b, item, sortKeys, w); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

func writeJSONDict(b *strings.Builder, d *Dict, sortKeys bool, w *walk) error {
	type entry struct {
		key   string
		value any
	}
	var all []entry
	for i, key := range d.keys {
		text, ok := key.(string)
		if !ok {
			return errorf("a key of JSON is a text, and this is a %s", typeName(key))
		}
		all = append(all, entry{text, d.values[i]})
	}
	if sortKeys {
		slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	} else if err := d.ordered(); err != nil {
		return err
	}
	b.WriteByte('{')
	for i, e := range all {
		if i > 0 {
			b.WriteString(", ")
		}
		writeJSONText(b, e.key)
		b.WriteString(": ")
		if err := writeJSON(b, e.value, sortKeys, w); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeJSONText(b *strings.Builder, s string) {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\f': `\f`, '\b': `\b`}
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case short[r] != "":
			b.WriteString(short[r])
		case r >= ' ' && r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
}

// ParseJSON reads JSON as Python's json.loads does, in the order of its keys.
func ParseJSON(text string) (any, error) {
	if !utf8.ValidString(text) || len(text) > maxText {
		return nil, errorf("this is no JSON")
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	v, err := readJSON(decoder, 0)
	if err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, errorf("there is more behind the JSON")
	}
	return v, nil
}

func readJSON(decoder *json.Decoder, depth int) (any, error) {
	if depth > maxNesting {
		return nil, errNesting
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, errorf("this is no JSON: %v", err)
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '[' {
			return readJSONList(decoder, depth)
		}
		return readJSONDict(decoder, depth)
	case json.Number:
		if strings.ContainsAny(t.String(), ".eE") {
			f, err := t.Float64()
			if err != nil {
				return nil, errOverflow
			}
			return f, nil
		}
		i, err := t.Int64()
		if err != nil {
			return nil, errOverflow
		}
		return int(i), nil
	}
	return token, nil
}

func readJSONList(decoder *json.Decoder, depth int) (any, error) {
	list := &List{[]any{}}
	for decoder.More() {
		v, err := readJSON(decoder, depth+1)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, v)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errorf("this is no JSON: %v", err)
	}
	return list, nil
}

func readJSONDict(decoder *json.Decoder, depth int) (any, error) {
	d := NewDict()
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, errorf("this is no JSON: %v", err)
		}
		v, err := readJSON(decoder, depth+1)
		if err != nil {
			return nil, err
		}
		if err := d.Set(key, v); err != nil {
			return nil, err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errorf("this is no JSON: %v", err)
	}
	return d, nil
}
