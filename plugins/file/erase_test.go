package file

import (
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/plugins/destination"
)

// Of whom was erased the files keep that they were removed, and nothing else;
// others' records stay, and the manifests tell the truth.
func TestErasedLeaveTheirFiles(t *testing.T) {
	eachTarget(t, func(t *testing.T, config map[string]string, dir string) {
		columns := []destination.Column{{Name: "email", Type: destination.String}}
		upsert := func(key, email string) destination.Change {
			return destination.Change{ID: "c-" + key, Key: key, Op: destination.Upsert, Values: []any{email}}
		}
		for _, run := range []string{"r1", "r2"} {
			d := opened(t, config)
			mustWrite(t, d, destination.Batch{ID: run, Run: run, Columns: columns, Changes: []destination.Change{upsert("-anna", "anna@example.com"), upsert("ben", "ben@example.com")}})
			mustClose(t, d)
		}
		before := legible(t, tree(t, dir))
		remove := func(run, reason string) map[string]string {
			d := opened(t, config)
			mustWrite(t, d, destination.Batch{ID: run, Run: run, Columns: columns, Changes: []destination.Change{
				{ID: "x", Key: "-anna", Op: destination.Remove, PriorityReason: reason, Values: []any{nil}},
			}})
			mustClose(t, d)
			return legible(t, tree(t, dir))
		}
		for name, text := range remove("r3", "consent_withdrawn") {
			if old, ok := before[name]; ok && old != text {
				t.Errorf("a withdrawal changed %s", name)
			}
		}
		for range 2 { // the second is a retry
			records, manifests := 0, 0
			for name, text := range remove("r4", erased) {
				if strings.Contains(text, "anna@example.com") || strings.Contains(text, "anna") && !strings.Contains(name, "run=r4/") {
					t.Errorf("%s has\n%s", name, text)
				}
				records += strings.Count(text, "ben@example.com")
				if strings.HasSuffix(name, manifestName) && (strings.Contains(name, "run=r1/") || strings.Contains(name, "run=r2/")) {
					manifests++
					if !strings.Contains(text, `"rows": 1,`) || text == before[name] {
						t.Errorf("%s is\n%s", name, text)
					}
				}
			}
			if records != 2 || manifests != 2 {
				t.Errorf("%d records of ben and %d manifests, want 2 and 2", records, manifests)
			}
		}
	})
}
