//go:build bigquery

package syncer_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluis-cdp/sluis/sql/bigquery"
	"github.com/sluis-cdp/sluis/sql/bigquery/bigquerytest"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// TestOnBigQuery holds the syncer to the same scenarios and tests on BigQuery
// as on DuckDB. Of the crashes it plays fewer, since each statement is a job
// there, and takes its time.
func TestOnBigQuery(t *testing.T) {
	next := bigquerytest.Projects(t)
	embedded, everyCrash, someHistories := newWarehouse, crashStride, histories
	t.Cleanup(func() { newWarehouse, crashStride, histories = embedded, everyCrash, someHistories })
	crashStride, histories = 17, 1
	newWarehouse = func(t testing.TB) warehouse.Driver {
		t.Helper()
		config := next(t)
		if err := bigquery.Setup(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		d, err := bigquery.Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, test := range []func(*testing.T){
		TestScenarios, TestOneRunOfASyncAtATime, TestTwoTakeAFreeLeaseAtOnce, TestATamperedPlanIsRefused, TestEveryTypeArrives,
		TestOnlyWhatIsSentIsOpened, TestPlansAndRunsAsJSON, TestEachOfSeveralVerdictsMustAllow, TestReceiptsOfRemovals, TestErasureWaitsForTheReceipt, TestWithdrawBetweenRuns,
		TestCrashAtEveryStep, TestRandomHistories, TestAHeldPlanStaysOpenForApproval,
	} {
		name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
		t.Run(name[strings.LastIndexByte(name, '.')+1:], test)
	}
}

var _ = func() bool {
	openers["bigquery"] = func(ctx context.Context, place string) (warehouse.Driver, error) {
		var config bigquery.Config
		if err := json.Unmarshal([]byte(place), &config); err != nil {
			return nil, err
		}
		return bigquery.Open(ctx, config)
	}
	return true
}()

// TestKilledAnywhereOnBigQuery is the crash matrix on BigQuery, at fewer points.
// There the connection can also be cut off, by a proxy that hangs up on whoever
// calls.
func TestKilledAnywhereOnBigQuery(t *testing.T) {
	crashes, seed := number(t, "SLUIS_CRASHES", 2), number(t, "SLUIS_SEED", time.Now().UnixNano())
	t.Logf("SLUIS_SEED=%d SLUIS_CRASHES=%d", seed, crashes)
	next := bigquerytest.Projects(t)
	encode := func(config bigquery.Config) string {
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	a := newArena(t, "webhook", newWebhookSite(t))
	a.place = func() (opener, place string) {
		config := next(t)
		if err := bigquery.Setup(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		return "bigquery", encode(config)
	}
	a.job.Opener, a.job.Warehouse = a.place()
	a.detour = func(place string) (string, func()) {
		var config bigquery.Config
		if err := json.Unmarshal([]byte(place), &config); err != nil {
			t.Fatal(err)
		}
		through, cut := cutOff(t, config.Endpoint)
		config.Endpoint, config.StorageEndpoint, config.Timeout = through, "", 5*time.Second
		return encode(config), cut
	}
	a.matrix(uint64(seed), int(crashes))
}

// cutOff is a proxy before BigQuery. Once it is cut, it hangs up.
func cutOff(t *testing.T, endpoint string) (through string, cut func()) {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var gone atomic.Bool
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone.Load() {
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL, func() { gone.Store(true) }
}
