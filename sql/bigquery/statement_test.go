package bigquery

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScan(t *testing.T) {
	tests := []struct {
		text         string
		statements   int
		word         string
		placeholders int
	}{
		{"", 0, "", 0},
		{" ; -- x\n;/* ; */", 0, "", 0},
		{"SELECT 1", 1, "select", 0},
		{"((select ?))", 1, "select", 1},
		{"SELECT ?; ", 1, "select", 1},
		{"SELECT 1; SELECT 2;", 2, "select", 0},
		{"# SELECT\nWITH a AS (SELECT ?) SELECT ?", 1, "with", 2},
		{`SELECT '?;', "?;", r'\';?', '''?'; ''', """?";""", '\'?;'`, 1, "select", 0},
		{"SELECT `a;?`, `a\\`;?`", 1, "select", 0},
		{"SELECT ''; SELECT ?", 2, "select", 1},
		{"SELECT '''a''';?", 2, "select", 1},
		{"SELECT a--;?\r, ?", 1, "select", 1},
		{"SELECT 1 - -?, 4/?/*?*/", 1, "select", 2},
		{"SÉLECT ?", 1, "sélect", 1},
	}
	for _, test := range tests {
		got, err := scan(test.text)
		want := scanned{test.statements, test.word, got.placeholders}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(scanned{})); diff != "" || err != nil || len(got.placeholders) != test.placeholders {
			t.Errorf("scan(%q): %v, placeholders %v (-want +got)\n%s", test.text, err, got.placeholders, diff)
		}
	}
	for _, text := range []string{"SELECT '", "SELECT 'a\n'", `SELECT '\'`, "SELECT '''a''", "/* ", "/*/", "SELECT `a", `SELECT r'\'`} {
		if _, err := scan(text); !errors.Is(err, errUnterminated) {
			t.Errorf("scan(%q): %v", text, err)
		}
	}
}

func TestPrepare(t *testing.T) {
	statement, err := prepare("SELECT '?', ?, ?, ?, ?, ? -- ?", []any{nil, "x", []string{}, json.RawMessage(nil), 7})
	if err != nil {
		t.Fatal(err)
	}
	if want := "SELECT '?', NULL, ?, ARRAY<STRING>[], NULL, ? -- ?"; statement.text != want || len(statement.parameters) != 2 {
		t.Errorf("%q with %d parameters, want %q", statement.text, len(statement.parameters), want)
	}
	for query, args := range map[string][]any{
		"SELECT ?":                  nil,
		"SELECT 1":                  {1},
		"SELECT 1; SELECT 2":        nil,
		"":                          nil,
		"BEGIN TRANSACTION":         nil,
		"call p()":                  nil,
		"EXECUTE IMMEDIATE 'x'":     nil,
		"DECLARE a INT64 DEFAULT ?": {1},
		"SELECT ? ":                 {struct{}{}},
	} {
		if _, err := prepare(query, args); err == nil {
			t.Errorf("prepare(%q, %v) succeeded", query, args)
		}
	}
}

// FuzzScan: whatever stands in the text, a string literal around it hides it,
// and nothing after it is mistaken.
func FuzzScan(f *testing.F) {
	f.Add("a;?'b")
	f.Add("\\")
	f.Add("--\n/*`")
	f.Fuzz(func(t *testing.T, text string) {
		escaped := strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`).Replace(text)
		got, err := scan("SELECT '" + escaped + "', ?; SELECT ?")
		if err != nil || got.statements != 2 || len(got.placeholders) != 2 {
			t.Errorf("%+v, %v", got, err)
		}
		if all, err := scan(text); err == nil && all.statements == 1 {
			if again, err := scan(text + "\n;SELECT 1"); err != nil || again.statements != 2 {
				t.Errorf("with a second statement: %+v, %v", again, err)
			}
		}
	})
}
