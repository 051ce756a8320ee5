package subject

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
)

// newSigner has a key of rights, and a folder for receipts.
func newSigner(t *testing.T) *Subjects {
	t.Helper()
	dir := t.TempDir()
	w := &workspace.Workspace{Dir: dir, Config: workspace.Config{Workspace: "shop", Data: "data", Keys: "keys"}}
	if err := errors.Join(os.MkdirAll(w.Erasures(), 0o700), os.MkdirAll(filepath.Join(dir, "keys"), 0o700)); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Workspace: w})
	if _, err := s.Workspace.EnsureKey(t.Context(), seal.KeyRights); err != nil {
		t.Fatal(err)
	}
	return s
}

// Any change of a receipt shows, and so does another key.
func TestReceiptsVerify(t *testing.T) {
	s := newSigner(t)
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	r, err := s.sign(t.Context(), Receipt{
		Format: receiptFormat, Workspace: "shop", Request: "0123456789abcdef", RequestedAt: at, CompletedAt: at.Add(time.Minute), Warehouse: "duckdb",
		Identifiers: 3, Deleted: map[string]int64{"sluis.events": 3}, Destinations: []Destination{{Sync: "s", Destination: "webhook", Outcome: OutcomeRemoved, Removed: 1}},
		IrrecoverableAt: at, Because: "because", Remains: []string{"Backups."},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.ReceiptPath(r.Request))
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.PublicKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Verify(text, key); err != nil || got.Request != r.Request || got.Deleted["sluis.events"] != 3 {
		t.Errorf("Verify: %+v, %v", got, err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		changed := maps.Clone(fields)
		switch v := value.(type) {
		case string:
			changed[name] = v[:len(v)-1] + string(v[len(v)-1]^1)
		case float64:
			changed[name] = v + 1
		default:
			delete(changed, name)
		}
		other, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(other, key); !errors.Is(err, ErrReceipt) {
			t.Errorf("with another %s it verifies: %v", name, err)
		}
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := r
	forged.Deleted, forged.PublicKey = map[string]int64{}, private.Public().(ed25519.PublicKey)
	content, err := forged.signed()
	if err != nil {
		t.Fatal(err)
	}
	forged.Signature = ed25519.Sign(private, content)
	other, err := json.Marshal(forged)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{
		"another key's": other, "what has more after it": append(bytes.Clone(text), "{}"...), "an added field": bytes.Replace(text, []byte("{"), []byte(`{"more":1,`), 1), "no JSON": []byte("x"),
	} {
		if _, err := Verify(text, key); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s verifies: %v", what, err)
		}
	}
}

// The account of an erasure survives as it was, and one that was damaged is not
// guessed at.
func TestUnfinishedErasuresAreReadBack(t *testing.T) {
	s := newSigner(t)
	for i, sweep := range []bool{false, true} {
		p := s.newPending(sweep)
		p.At = time.Date(2026, 3, 2-i, 0, 0, 0, 0, time.UTC)
		p.Pseudonyms, p.Done = []string{"us1_anna"}, []string{"a step"}
		p.Passes["l"] = &pass{Events: []string{"e1"}, Ledger: []ledgerChange{{Source: "web", Outcome: "landed", N: 2}}}
		if err := p.save(); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.unfinished()
	if err != nil || len(all) != 2 || !all[0].Sweep || all[1].Passes["l"].Ledger[0].N != 2 || all[1].Done[0] != "a step" {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := all[0].remove(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(all[1].path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.unfinished(); err == nil {
		t.Error("a damaged account was taken")
	}
}

func TestOneErasureAtATime(t *testing.T) {
	s := newSigner(t)
	leave, err := s.alone(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.alone(t.Context(), false); !errors.Is(err, ErrBusy) {
		t.Errorf("a second: %v", err)
	}
	if err := leave(); err != nil {
		t.Fatal(err)
	}
	if leave, err = s.alone(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := leave(); err != nil {
		t.Fatal(err)
	}
}
