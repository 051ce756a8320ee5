package destination_test

import (
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

func TestCheckColumns(t *testing.T) {
	target := destination.Target{
		Fields: []destination.TargetField{
			{Name: "email", Required: true},
			{Name: "visits", Types: []destination.Type{destination.Int64, destination.String}},
		},
		Closed: true,
	}
	for _, tt := range []struct {
		name    string
		target  destination.Target
		columns []destination.Column
		want    []string // in the error; none means no error
	}{
		{"good", target, []destination.Column{{Name: "email"}, {Name: "visits", Type: destination.Int64}}, nil},
		{"missing", target, []destination.Column{{Name: "visits", Type: destination.String}}, []string{"email is required"}},
		{"unknown", target, []destination.Column{{Name: "email"}, {Name: "e-mail"}}, []string{"e-mail: there is no such field; there are email, visits"}},
		{"type", target, []destination.Column{{Name: "email"}, {Name: "visits", Type: destination.Bool}}, []string{"visits: is of type [int64 string] there"}},
		{"two", target, []destination.Column{{Name: "x"}}, []string{"x: there is no", "email is required"}},
		{"any", destination.Target{}, []destination.Column{{Name: "x"}}, nil},
		{"open", destination.Target{Fields: target.Fields}, []destination.Column{{Name: "x"}, {Name: "email"}}, nil},
	} {
		err := tt.target.CheckColumns(tt.columns)
		if (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v", tt.name, err)
		}
		for _, want := range tt.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: err = %v, want one with %q", tt.name, err, want)
			}
		}
	}
}

func TestTargetCheck(t *testing.T) {
	for name, fields := range map[string][]destination.TargetField{
		"twice":   {{Name: "a"}, {Name: "a"}},
		"unnamed": {{}},
		"type":    {{Name: "a", Types: []destination.Type{6}}},
	} {
		if (destination.Target{Fields: fields}).Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
