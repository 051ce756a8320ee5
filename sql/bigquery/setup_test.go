package bigquery_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestSetupOnlyLooks: once everything is there, Setup writes nothing, so that
// the rights to read suffice for it.
func TestSetupOnlyLooks(t *testing.T) {
	made := map[string]json.RawMessage{} // by path
	var writes int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if resource, ok := made[r.URL.Path]; ok {
				reply(w, resource)
			} else {
				fail(w, apiError{http.StatusNotFound, "notFound", "Not found: " + r.URL.Path})
			}
			return
		}
		writes++
		var resource struct {
			DatasetReference struct{ DatasetID string }
			TableReference   struct{ TableID string }
		}
		content, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(content, &resource) != nil {
			t.Errorf("%v: %s", err, content)
		}
		made[strings.TrimSuffix(r.URL.Path, "/")+"/"+resource.DatasetReference.DatasetID+resource.TableReference.TableID] = content
		reply(w, json.RawMessage(content))
	}))
	defer server.Close()
	config := bigquery.Config{Project: "p", Location: "EU", Endpoint: server.URL}
	for _, want := range []int{3 + len(warehouse.Landing()), 0} {
		writes = 0
		if err := bigquery.Setup(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if writes != want {
			t.Errorf("%d writes, want %d: %d resources", writes, want, len(made))
		}
	}
}
