package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/consent/seal"
)

// evaluator is a pseudonym service, which counts and can be away.
type evaluator struct {
	holder *seal.KeyHolder
	mu     sync.Mutex
	asked  []int // elements of each time
	away   error
}

func (e *evaluator) Evaluate(ctx context.Context, version int, blinded [][]byte, proof bool) (seal.Evaluation, error) {
	e.mu.Lock()
	away := e.away
	e.asked = append(e.asked, len(blinded))
	e.mu.Unlock()
	if away != nil {
		return seal.Evaluation{}, away
	}
	return e.holder.Evaluate(ctx, version, blinded, proof)
}

func (e *evaluator) take() []int {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := e.asked
	e.asked = nil
	return asked
}

// newServedBench is a bench in remote mode, with the keys of newBench.
func newServedBench(t testing.TB, e *evaluator) *bench {
	t.Helper()
	ctx := context.Background()
	keys := fixedKeys{seal.Dir(filepath.Join(t.TempDir(), "keys"))}
	err := seal.Generate(keys.Dir, nil)
	if err == nil {
		e.holder, err = seal.NewKeyHolder(ctx, keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	return newBench(t, func(c *Config) {
		c.Pseudonymizer, err = seal.NewServedPseudonymizer(ctx, keys, "test", "NL", seal.Service{
			Mode: seal.Remote, Evaluator: e, PublicKey: e.holder.PublicKey(1),
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

const granting = `"context":{"consent":{"categoryPreferences":{"analytics":true,"identity":true,"marketing":true}}}`

func identifyOf(n int) string {
	return fmt.Sprintf(`{"type":"identify","messageId":"m-%[1]d","userId":"customer-%[1]d","traits":{"email":"person%[1]d@example.com","phone":"061234%04[1]d","firstName":"Jo%[1]d"},%[2]s}`, n, granting)
}

// TestOneRoundTrip: whatever the events of a request hold, the service is asked
// once, and never for those that do not pass the gate.
func TestOneRoundTrip(t *testing.T) {
	e := new(evaluator)
	served, local := newServedBench(t, e), newBench(t, nil)
	refused := `{"type":"identify","messageId":"r-1","anonymousId":"not a uuid","traits":{"email":"refuser@example.com"}}`
	var events []string
	for n := range 20 {
		events = append(events, identifyOf(n))
	}
	events = append(events, refused)
	body := `{"batch":[` + strings.Join(events, ",") + `]}`
	for _, b := range []*bench{served, local} {
		if status, answer := b.post(t, "/v1/batch", body, "X-Write-Key", "wk_web"); status != http.StatusOK {
			t.Fatal(status, answer)
		}
	}
	// Per event: user id, e-mail, phone, and the first name for its value token.
	if asked := e.take(); !slices.Equal(asked, []int{80}) {
		t.Errorf("the service was asked for %v elements", asked)
	}
	got, want := served.spool.rows(t), local.spool.rows(t)
	if diff := cmp.Diff(want.Events, got.Events); diff != "" {
		t.Errorf("events differ from local mode: %s", diff)
	}
	if diff := cmp.Diff(want.Elements, got.Elements); diff != "" || len(got.Elements) != 60 {
		t.Errorf("%d elements differ from local mode: %s", len(got.Elements), diff)
	}
	tokens := func(rows Rows) (list []string) {
		for _, v := range rows.Vault {
			list = append(list, v.Pseudonym+v.Field+v.Token)
		}
		return list
	}
	if diff := cmp.Diff(tokens(want), tokens(got)); diff != "" || len(got.Vault) != 60 {
		t.Errorf("%d sealed values differ from local mode: %s", len(got.Vault), diff)
	}

	served.post(t, "/v1/batch", strings.ReplaceAll(body, `"m-`, `"again-`), "X-Write-Key", "wk_web")
	if asked := e.take(); len(asked) != 0 {
		t.Errorf("what is known was asked for again: %v", asked)
	}
	if n := len(served.spool.rows(t).Elements); n != 60 {
		t.Errorf("elements landed again: %d", n)
	}
	served.post(t, "/v1/track", `{"messageId":"u-1","anonymousId":"0b7c1f6e-6a31-4f0e-9a55-5b1b7f2c9d10","event":"Live Chat Started",`+granting+`}`, "X-Write-Key", "wk_web")
	if asked := e.take(); len(asked) != 0 {
		t.Errorf("a random id was asked for: %v", asked)
	}
	served.post(t, "/v1/consent", `{"userId":"customer-1","anonymousId":"visitor","email":"new@example.com","purposes":{"analytics":true}}`, "X-Write-Key", "wk_web")
	if asked := e.take(); !slices.Equal(asked, []int{2}) {
		t.Errorf("a choice asked for %v elements, want the two that are new at once", asked)
	}
}

// TestServiceIsAway: while pseudonyms cannot be made, events are refused such that
// their sender keeps them, and nothing of them is written; the same events land
// once it is back.
func TestServiceIsAway(t *testing.T) {
	e := new(evaluator)
	b := newServedBench(t, e)
	body := `{"batch":[` + identifyOf(1) + `,{"type":"track","messageId":"u-1","anonymousId":"0b7c1f6e-6a31-4f0e-9a55-5b1b7f2c9d10","event":"Live Chat Started",` + granting + `}]}`
	consent := `{"userId":"customer-1","purposes":{"analytics":false}}`
	for name, test := range map[string]struct {
		err   error
		after string
	}{
		"away":      {&seal.UnavailableError{RetryAfter: 1500 * time.Millisecond, Err: errors.New("gone")}, "2"},
		"wrong key": {seal.ErrWrongKey, "60"},
	} {
		e.away = test.err
		for path, body := range map[string]string{"/v1/batch": body, "/v1/consent": consent} {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
			r.Header.Set("X-Write-Key", "wk_web")
			w := httptest.NewRecorder()
			b.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != test.after || !strings.Contains(w.Body.String(), "pseudonyms_unavailable") {
				t.Errorf("%s, %s: %d, Retry-After %q: %s", name, path, w.Code, w.Header().Get("Retry-After"), w.Body)
			}
		}
		if n := len(b.spool.records); n != 0 {
			t.Fatalf("%s: %d records were written", name, n)
		}
	}
	e.away = nil
	if status, answer := b.post(t, "/v1/batch", body, "X-Write-Key", "wk_web"); status != http.StatusOK || answer["notLanded"] != nil {
		t.Errorf("once the service is back: %d %v", status, answer)
	}
	rows := b.spool.rows(t)
	if len(rows.Events) != 2 || len(rows.Elements) != 3 {
		t.Errorf("landed %d events, %d elements", len(rows.Events), len(rows.Elements))
	}
	for _, record := range b.spool.records {
		if bytes.Contains(record, []byte("lacking")) {
			t.Error("a stand-in was written")
		}
	}
}

// TestManyPseudonyms: a request that needs more pseudonyms than are asked for at
// once becomes several.
func TestManyPseudonyms(t *testing.T) {
	e := new(evaluator)
	b := newServedBench(t, e)
	var events []string
	for n := range maxFetch/2 + 50 {
		events = append(events, fmt.Sprintf(`{"type":"track","messageId":"m-%[1]d","event":"Live Chat Started","userId":"u%[1]d","anonymousId":"a%[1]d",%[2]s}`, n, granting))
	}
	status, answer := b.post(t, "/v1/batch", `{"batch":[`+strings.Join(events, ",")+`]}`, "X-Write-Key", "wk_web")
	if status != http.StatusOK || answer["notLanded"] != nil {
		t.Fatal(status)
	}
	if rows := b.spool.rows(t); len(rows.Events) != len(events) || len(rows.Elements) != 2*len(events) {
		t.Errorf("landed %d events and %d elements", len(rows.Events), len(rows.Elements))
	}
	if asked := e.take(); len(asked) != 2 {
		t.Errorf("asked for %v", asked)
	}
}
