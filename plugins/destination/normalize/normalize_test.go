package normalize

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestPublishedVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.tsv")
	if err != nil {
		t.Fatal(err)
	}
	published := 0
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			t.Fatalf("line %d has %d fields", i+1, len(f))
		}
		input := strings.TrimSuffix(strings.TrimPrefix(f[1], "|"), "|")
		got, err := Apply(f[0], input)
		want := f[3]
		switch want {
		case "plain":
			want = f[2]
		case "-":
			want = hash(f[2])
		default:
			published++
		}
		if refused := f[2] == "refused"; refused != (err != nil) || !refused && got != want {
			t.Errorf("line %d: %s %q: %q, %v", i+1, f[0], input, got, err)
		}
	}
	if published < 15 {
		t.Errorf("only %d published hashes", published)
	}
}

// What is not published as an example follows the documents' words.
func TestForms(t *testing.T) {
	const refused = "(refused)"
	for _, tt := range []struct{ form, input, want string }{
		{"email", "  Jane.Doe+News@Example.ORG\n", "jane.doe+news@example.org"},
		{"email", "jane", refused},
		{"email", "a@b@c", refused},
		{"e164", "0031 6 12345678", "+31612345678"},
		{"e164", "06 12345678", refused},
		{"e164", "(650) 555-1212", refused},
		{"e164", "+31 (0)6", refused},
		{"e164", "+1234567890123456", refused},
		{"e164", "1-800-FLOWERS", refused},
		{"google.email", "a l e x z@example.com", "alexz@example.com"},
		{"meta.email", "Jane.Doe+News@gmail.com", "jane.doe+news@gmail.com"}, // unlike Google
		{"meta.name", " O'Brien-Smith ", "obriensmith"},
		{"meta.name", "van der Berg", "van der berg"},
		{"meta.name", "गौरव", "गौरव"}, // with its marks
		{"meta.name", "'-'", refused},
		{"meta.first_initial", "Émile", "é"},
		{"meta.gender", "Female", "f"},
		{"meta.gender", "M", "m"},
		{"meta.gender", "x", refused},
		{"meta.birth_date", "1997-02-16", "19970216"},
		{"meta.birth_date", "19970216", "19970216"},
		{"meta.birth_date", "2/3/1997", refused}, // of which month?
		{"meta.birth_date", "1897-02-16", refused},
		{"meta.birth_year", "1997", "1997"},
		{"meta.birth_year", "97", refused},
		{"meta.birth_month", "2", "02"},
		{"meta.birth_month", "1997-02-16", "02"},
		{"meta.birth_month", "13", refused},
		{"meta.birth_day", "16", "16"},
		{"meta.city", "New York", "newyork"},
		{"meta.city", "São Paulo", "sãopaulo"},
		{"meta.state", "N.Y.", "ny"},
		{"meta.zip", "94035-1234", "94035"},
		{"meta.zip", "1012 AB", "1012ab"},
		{"meta.country", "NL", "nl"},
		{"meta.country", "NLD", refused},
		{"meta.madid", "AB1234CD-E123-12FG-J123-456HI789", "ab1234cd-e123-12fg-j123-456hi789"},
		{"google.region", "NLD", refused},
	} {
		got, err := Apply(tt.form, tt.input)
		want := tt.want
		if want != refused && forms()[tt.form].hashed {
			want = hash(want)
		}
		if (err != nil) != (want == refused) || err == nil && got != want {
			t.Errorf("%s %q: %q, %v; want %q", tt.form, tt.input, got, err, tt.want)
		}
		if err != nil && len(tt.input) > 3 && strings.Contains(err.Error(), tt.input) {
			t.Errorf("%s: the value is in %v", tt.form, err)
		}
	}
	if _, err := Apply("meta.shoe_size", "43"); err == nil || Known("meta.shoe_size") || !Known("meta.zip") {
		t.Error("an unknown form")
	}
}

// Hashed before, a value is sent as it is.
func TestHashedAlready(t *testing.T) {
	want := hash("jane@example.org")
	for _, value := range []string{want, strings.ToUpper(want)} {
		if got, err := Apply("meta.email", value); got != want || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := Apply("email", want); err == nil {
		t.Error("a hash where an address belongs, and no error")
	}
}

func TestBatch(t *testing.T) {
	target := destination.Target{Fields: []destination.TargetField{
		{Name: "EMAIL", Form: "meta.email"}, {Name: "PHONE", Form: "meta.phone"}, {Name: "DOBY", Form: "meta.birth_year"}, {Name: "value"},
	}}
	in := destination.Batch{
		ID: "b",
		Columns: []destination.Column{
			{Name: "EMAIL", Type: destination.String}, {Name: "PHONE", Type: destination.Int64}, {Name: "DOBY", Type: destination.Time}, {Name: "value", Type: destination.Float64},
		},
		Changes: []destination.Change{
			{ID: "1", Key: "1", Op: destination.Upsert, Values: []any{"Jane@example.org", int64(31612345678), time.Date(1990, 1, 2, 0, 0, 0, 0, time.UTC), 2.5}, Former: [][]any{{"Janet@example.org", int64(1), nil, nil}}},
			{ID: "2", Key: "2", Op: destination.Upsert, Values: []any{"jane", int64(12), nil, nil}},
			{ID: "3", Key: "3", Op: destination.Remove, Values: []any{" ", nil, nil, nil}},
		},
	}
	before := fmt.Sprint(in)
	out, dropped := Batch(target, in)
	if fmt.Sprint(in) != before {
		t.Error("the batch itself was changed")
	}
	if err := out.Validate(); err != nil {
		t.Error(err)
	}
	want := [][]any{{hash("jane@example.org"), hash("31612345678"), hash("1990"), 2.5}, {nil, nil, nil, nil}, {nil, nil, nil, nil}}
	for i, c := range out.Changes {
		if diff := cmp.Diff(want[i], c.Values); diff != "" {
			t.Errorf("row %d: %s", i, diff)
		}
	}
	if diff := cmp.Diff([][]any{{hash("janet@example.org"), nil, nil, nil}}, out.Changes[0].Former); diff != "" {
		t.Errorf("former values: %s", diff)
	}
	wantDropped := map[int]string{1: "sent without what is not in its form: EMAIL " + errEmail.Error() + "; PHONE " + errPhone.Error()}
	if diff := cmp.Diff(wantDropped, dropped); diff != "" {
		t.Error(diff)
	}
	if same, dropped := Batch(destination.Target{}, in); fmt.Sprint(same) != before || dropped != nil {
		t.Error("without forms a batch is not as it was")
	}
}

// Whatever comes in, a hashed form's result is a hash, a plain one's is stable,
// and an error does not repeat the value.
func FuzzApply(f *testing.F) {
	for _, s := range []string{"Jane@Example.org", "+31 6 12345678", "1997-02-16", "NL", "f", "\xff", "０６", "İ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for name, form := range forms() {
			got, err := Apply(name, value)
			switch {
			case err != nil:
				if utf8.RuneCountInString(value) > 12 && strings.Contains(err.Error(), value) {
					t.Errorf("%s: the value is in %v", name, err)
				}
			case form.hashed:
				if again, err := Apply(name, got); !IsHash(got) || err != nil || again != got {
					t.Errorf("%s %q: %q, again %q %v", name, value, got, again, err)
				}
			case name == "meta.madid", name == "google.postal_code", name == "google.region", name == "email":
				if again, err := Apply(name, got); err != nil || again != got {
					t.Errorf("%s %q: %q, again %q %v", name, value, got, again, err)
				}
			}
		}
	})
}
