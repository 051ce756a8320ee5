//go:build bigquery

package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/cmd/internal/subject"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
)

// TestErasureOnBigQuery is TestErasure there, without a scheduler; and what a
// collector lands that does not know of the erasure is gone before models are built.
func TestErasureOnBigQuery(t *testing.T) {
	config := bigquerytest.Projects(t)(t)
	t.Setenv(workspace.EnvBigQueryEndpoint, config.Endpoint)
	t.Setenv(workspace.EnvBigQueryStorageEndpoint, config.StorageEndpoint)
	s := &rightsShop{t: t, dir: filepath.Join(t.TempDir(), "shop")}
	if _, err := initWorkspace(s.dir, initOptions{Name: "shop", WriteKey: "wk_test", Project: config.Project, Location: config.Location}); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(s.dir, "sluis.yaml"), "listen: 127.0.0.1:8485", "listen: 127.0.0.1:0")
	secret, err := os.ReadFile(filepath.Join(s.dir, "keys", "webhook.secret"))
	if err != nil {
		t.Fatal(err)
	}
	if s.target, err = newReceiver(strings.TrimSpace(string(secret))); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.target)
	t.Cleanup(server.Close)
	if err := pointWebhook(s.dir, server.URL); err != nil {
		t.Fatal(err)
	}
	w, err := workspace.Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := setUpWarehouse(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	collecting := func(visits ...string) { // each lands before it returns
		s.program = start(t, "collector", "--workspace", s.dir, "--listen", "127.0.0.1:0")
		for i, name := range visits {
			s.visit(name, fmt.Sprint(i+1))
		}
		s.terminate(t)
	}
	tables := func(name string) map[string]float64 {
		found := make(map[string]float64)
		for _, schema := range []string{"sluis", "sluis_models", "sluis_sync"} {
			for _, row := range query(t, s.dir, "select table_name as name from "+schema+".INFORMATION_SCHEMA.TABLES where table_type = 'BASE TABLE'") {
				table := schema + "." + row["name"].(string)
				n := query(t, s.dir, fmt.Sprintf("select count(*) as n from %s as of_table where regexp_contains(to_json_string(of_table), '%s')", table, strings.Join(s.pseudonyms(name), "|")))
				if found[table] = n[0]["n"].(float64); found[table] == 0 || schema == "sluis_sync" && name == "canary-ben" {
					delete(found, table)
				}
			}
		}
		return found
	}

	collecting("canary-anna", "canary-ben")
	said(t, s.dir, "models", "run")
	said(t, s.dir, "sync", "run")
	if before := tables("canary-anna"); len(before) < 10 {
		t.Errorf("anna is in too few tables for this to show much: %v", before)
	}
	bensBefore := tables("canary-ben")
	var e subject.Export
	s.json(&e, "subject", "export", "--user-id", "canary-anna", "--json")
	if len(e.Events) != 3 || len(e.Quarantine) != 1 || len(e.Sealed) == 0 || len(e.Deliveries) != 2 || len(e.Audiences) != 1 {
		t.Errorf("the export has %d events, %d in quarantine, %d sealed values, %d deliveries, audiences %v", len(e.Events), len(e.Quarantine), len(e.Sealed), len(e.Deliveries), e.Audiences)
	}
	if text := said(t, s.dir, "subject", "explain", "--user-id", "canary-anna", "--sync", "pricing_and_chat_webhook"); !strings.Contains(text, "is in pricing_and_chat") || !strings.Contains(text, "upsert, because of new: delivered") {
		t.Errorf("the explanation is\n%s", text)
	}

	var receipt subject.Receipt
	s.json(&receipt, "subject", "erase", "--email", "canary-anna@example.com", "--yes", "--json")
	if receipt.Identifiers != 4 || receipt.Deleted["sluis.events"] != 3 || receipt.Deleted["sluis.quarantine"] != 1 || receipt.Warehouse != "bigquery" {
		t.Errorf("the receipt is %+v", receipt)
	}
	if kept := receipt.IrrecoverableAt.Sub(receipt.CompletedAt); kept < 9*24*time.Hour || kept > 14*24*time.Hour {
		t.Errorf("nobody can bring it back after %v", kept)
	}
	gone := func(when string) {
		t.Helper()
		if left := tables("canary-anna"); len(left) > 0 {
			t.Errorf("%s: anna is in %v", when, left)
		}
		if diff := cmp.Diff(bensBefore, tables("canary-ben")); diff != "" {
			t.Errorf("%s: ben is not as before (-before +after)\n%s", when, diff)
		}
		said(t, s.dir, "ledger")
		said(t, s.dir, "consent", "verify")
	}
	gone("after the erasure")
	if emails, _, refused := s.target.snapshot(); emails["canary-anna@example.com"] || !emails["canary-ben@example.com"] || refused > 0 {
		t.Errorf("the destination has %v", emails)
	}
	collecting("canary-anna")
	gone("after a replay")

	// A collector elsewhere, which nobody has told; and one whose quarantine nobody
	// has looked through.
	if err := os.Remove(w.Suppressed()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "data", "message-ids")); err != nil {
		t.Fatal(err)
	}
	collecting("canary-anna")
	if landed := tables("canary-anna"); landed["sluis.events"] != 3 {
		t.Errorf("an uninformed collector landed %v", landed)
	}
	said(t, s.dir, "models", "run")
	gone("after a sweep")
	said(t, s.dir, "subject", "sweep")
	if rows := query(t, s.dir, "select count(*) as n from sluis.quarantine where ciphertext is not null"); rows[0]["n"] != 1.0 { // ben's
		t.Errorf("%v events are in quarantine", rows[0]["n"])
	}
	var empty subject.Export
	s.json(&empty, "subject", "export", "--email", "canary-anna@example.com", "--json")
	if empty.Holds() || len(empty.Erasures) != 1 {
		t.Errorf("an export afterwards has %+v", empty)
	}
}
