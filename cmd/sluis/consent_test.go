package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sluis-cdp/sluis/collector"
	"github.com/sluis-cdp/sluis/consent/record"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// choose sends choices of people to a collector.
func choose(t *testing.T, url string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		r, err := client.Post(url+"/v1/consent", "application/json", strings.NewReader(strings.Replace(body, "{", `{"writeKey":"wk_test",`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", body, r.Status)
		}
	}
}

// consentFiles are the Parquet files of the record.
func consentFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "data/landing/dt=*/*/consents.parquet"))
	if err != nil || len(files) == 0 {
		t.Fatal("no consents landed", err)
	}
	return files
}

// rewrite changes the landed rows of the record, as somebody could who can write
// to the warehouse.
func rewrite(t *testing.T, dir string, change func([]collector.ConsentRow) []collector.ConsentRow) {
	t.Helper()
	for _, file := range consentFiles(t, dir) {
		rows, err := parquet.ReadFile[collector.ConsentRow](file)
		if err != nil {
			t.Fatal(err)
		}
		if err := parquet.WriteFile(file, change(rows)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConsentRecord lets people choose at a collector that is started twice, and
// then lets somebody touch what landed.
func TestConsentRecord(t *testing.T) {
	dir := newWorkspace(t)
	anchor := filepath.Join(t.TempDir(), "anchor.json")
	p := start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0")
	choose(t, p.url,
		`{"userId":"anna","anonymousId":"a-1","notice":"banner-1","purposes":{"analytics":true,"marketing":true}}`,
		`{"email":"bob@example.com","purposes":{"analytics":false}}`,
		`{"purposes":{"analytics":true}}`) // of nobody: there is nothing to record
	p.terminate(t)
	if code, out, failed := sluis(t, "consent", "verify", "-w", dir, "--anchor", anchor); code != exitDone || !strings.Contains(out, "5 rows in 2 links of 1 chains, 0 of them erased: nothing was changed") {
		t.Fatalf("%d %s%s", code, out, failed)
	}
	p = start(t, "collector", "--workspace", dir, "--listen", "127.0.0.1:0")
	choose(t, p.url, `{"userId":"anna","purposes":{"marketing":false}}`)
	p.terminate(t)
	if code, out, failed := sluis(t, "consent", "verify", "-w", dir, "--anchor", anchor); code != exitDone || !strings.Contains(out, "6 rows in 3 links of 2 chains") {
		t.Fatalf("%d %s%s", code, out, failed)
	}
	receiptsOf(t, dir)
	eraseFromRecord(t, dir, anchor)
	tamper(t, dir, anchor)
}

// receiptsOf asks for those of a person who chose twice.
func receiptsOf(t *testing.T, dir string) {
	t.Helper()
	code, out, failed := sluis(t, "consent", "receipts", "-w", dir, "--user-id", "anna", "--json")
	var receipts []record.Receipt
	if err := json.Unmarshal([]byte(out), &receipts); code != exitDone || err != nil || len(receipts) != 2 {
		t.Fatalf("%d %v %s%s", code, err, out, failed)
	}
	first, second := receipts[0].Record, receipts[1].Record
	if first.Notice == nil || first.Notice.Version != "banner-1" || len(first.Process) != 2 || first.Process[1].Status != "dpv:ConsentGiven" ||
		first.Process[1].LegalBasis != "dpv:Consent" || first.Process[1].ValidUntil.IsZero() || len(first.Process[1].Evidence.Rows) != 1 {
		t.Errorf("the first receipt: %+v", first)
	}
	if len(second.Process) != 1 || second.Process[0].Status != "dpv:ConsentWithdrawn" || second.Process[0].Purpose.Name != "marketing" {
		t.Errorf("the second receipt: %+v", second)
	}
	if strings.Contains(out, "anna") {
		t.Error("a receipt has the id in clear")
	}
	if code, out, _ := sluis(t, "consent", "receipts", "-w", dir, "--email", "bob@example.com"); code != exitDone || !strings.Contains(out, "analytics  refused") {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ := sluis(t, "consent", "receipts", "-w", dir, "--phone", "+31612345678"); code != exitDone || !strings.Contains(out, "no choice of this person") {
		t.Errorf("%d %s", code, out)
	}
	if code, _, failed := sluis(t, "consent", "receipts", "-w", dir); code != exitUsage {
		t.Errorf("%d %s", code, failed)
	}
}

// eraseFromRecord makes husks of a person's rows, signed by the key of rights.
func eraseFromRecord(t *testing.T, dir, anchor string) {
	t.Helper()
	seed, err := seal.Dir(filepath.Join(dir, "keys")).Key(t.Context(), seal.KeyRights)
	if err != nil {
		t.Fatal(err)
	}
	rights, err := record.NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, dir, func(rows []collector.ConsentRow) []collector.ConsentRow {
		for i := range rows {
			if strings.HasPrefix(rows[i].Pseudonym, "em") {
				rows[i] = rows[i].Erase(rights, "shop", "request-1")
			}
		}
		return rows
	})
	if code, out, failed := sluis(t, "consent", "verify", "-w", dir, "--anchor", anchor); code != exitDone || !strings.Contains(out, "6 rows in 3 links of 2 chains, 1 of them erased: nothing was changed") {
		t.Fatalf("after an erasure: %d %s%s", code, out, failed)
	}
}

// tamper changes what landed, one way after the other, each from what was there.
func tamper(t *testing.T, dir, anchor string) {
	t.Helper()
	saved := make(map[string][]byte)
	for _, file := range consentFiles(t, dir) {
		var err error
		if saved[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	withdrawal := func(r collector.ConsentRow) bool { return !r.Granted && r.Purpose == "marketing" }
	for name, test := range map[string]struct {
		change func([]collector.ConsentRow) []collector.ConsentRow
		want   string
	}{
		"a refusal becomes a consent": {func(rows []collector.ConsentRow) []collector.ConsentRow {
			for i := range rows {
				rows[i].Granted = rows[i].Granted || withdrawal(rows[i])
			}
			return rows
		}, "was changed"},
		"a withdrawal is removed": {func(rows []collector.ConsentRow) []collector.ConsentRow {
			return slices.DeleteFunc(rows, withdrawal)
		}, "is missing; the anchor has seen it"},
		"a row is removed from a link": {func(rows []collector.ConsentRow) []collector.ConsentRow {
			return slices.DeleteFunc(rows, func(r collector.ConsentRow) bool { return r.LinkRow == 1 })
		}, "row 1: is missing"},
		"a withdrawal passes for erased": {func(rows []collector.ConsentRow) []collector.ConsentRow {
			for i := range rows {
				if withdrawal(rows[i]) {
					forged, err := record.NewKey([]byte(strings.Repeat("x", 32)))
					if err != nil {
						t.Fatal(err)
					}
					rows[i] = rows[i].Erase(forged, "shop", "request-2")
				}
			}
			return rows
		}, "says that it was erased, which nobody who may has signed"},
		"a consent is added": {func(rows []collector.ConsentRow) []collector.ConsentRow {
			added := rows[0]
			added.Chain, added.Link, added.Signature = "", 0, ""
			return append(rows, added)
		}, "is not signed"},
	} {
		rewrite(t, dir, test.change)
		if code, out, failed := sluis(t, "consent", "verify", "-w", dir, "--anchor", anchor); code != exitFailed || !strings.Contains(out, test.want) {
			t.Errorf("%s: %d %s%s", name, code, out, failed)
		}
		for file, content := range saved {
			if err := os.WriteFile(file, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	code, out, _ := sluis(t, "consent", "verify", "-w", dir, "--anchor", anchor, "--json")
	var report struct {
		Verified bool
		Rows     int
		Heads    []record.Head
	}
	if err := json.Unmarshal([]byte(out), &report); code != exitDone || err != nil || !report.Verified || report.Rows != 6 || len(report.Heads) != 2 {
		t.Errorf("as it was: %d %v %s", code, err, out)
	}
}
