package jinja

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
)

// corpus are templates, with what Jinja2 as dbt sets it up makes of them. It
// is written by testdata/generate.py.
type corpus struct {
	Context json.RawMessage
	Cases   [][3]*string // template; result, or nothing; name of the error
}

func readCorpus(t testing.TB, path string) corpus {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c corpus
	if err := json.Unmarshal(content, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c corpus) globals(t testing.TB) map[string]any {
	t.Helper()
	v, err := ParseJSON(string(c.Context))
	if err != nil {
		t.Fatal(err)
	}
	globals := map[string]any{}
	d := v.(*Dict)
	for i, key := range d.keys {
		globals[key.(string)] = d.values[i]
	}
	return globals
}

func corpusEngine(t testing.TB) *Engine {
	t.Helper()
	macros, err := os.ReadFile("testdata/macros.sql")
	if err != nil {
		t.Fatal(err)
	}
	e := New()
	if err := e.Define("macros.sql", string(macros)); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestCorpus holds the engine against Jinja2: each template renders as there, or
// is refused with file and line. What Jinja2 refuses is refused.
func TestCorpus(t *testing.T) {
	path, least := "testdata/expected.json", 93.0
	if other := os.Getenv("SLUIS_CORPUS"); other != "" {
		path, least = other, 0
	}
	c, e := readCorpus(t, path), corpusEngine(t)
	same, refused, both := 0, 0, 0
	for _, one := range c.Cases {
		text, err := "", error(nil)
		parsed, err := e.Parse("m.sql", *one[0])
		if err == nil {
			text, err = parsed.Render(c.globals(t))
		}
		located, ok := errors.AsType[*Error](err)
		switch {
		case err != nil && (!ok || located.Line == 0 || located.Path == ""):
			t.Errorf("%q: an error without file or line: %v", *one[0], err)
		case err != nil && one[1] == nil:
			both++
		case err != nil:
			refused++
			t.Logf("refused: %q: %v", *one[0], err)
		case one[1] == nil:
			t.Errorf("%q rendered %q, and is an error in Jinja2: %s", *one[0], text, *one[2])
		case text != *one[1]:
			t.Errorf("%q\n  rendered %q\n  not      %q", *one[0], text, *one[1])
		default:
			same++
		}
	}
	share := 100 * float64(same) / float64(same+refused)
	t.Logf("%d templates: %d render as in Jinja2, %d it renders are refused (%.1f %% rendered), %d are errors in both", len(c.Cases), same, refused, share, both)
	if share < least {
		t.Errorf("only %.1f %% of what Jinja2 renders is rendered", share)
	}
}
