package bigquery

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLanded: the state file says from where landing goes on, of a spool that
// is not known from the start, and with a batch begun from its start.
func TestLanded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bigquery.state")
	if next, err := Landed(file, "a"); next != 0 || err != nil {
		t.Errorf("without a file: %d %v", next, err)
	}
	data, err := encodeState(state{Spools: map[string]*spoolState{
		"a": {Next: 7}, "b": {Next: 3, Batch: &pending{First: 3, Last: 9}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o400); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]uint64{"a": 7, "b": 3, "c": 0} {
		if next, err := Landed(file, id); next != want || err != nil {
			t.Errorf("%s: %d %v, want %d", id, next, err, want)
		}
	}
	if err := os.WriteFile(file+".damaged", data[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Landed(file+".damaged", "a"); err == nil {
		t.Error("a damaged file says where landing goes on")
	}
}
