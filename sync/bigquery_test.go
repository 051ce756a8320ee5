//go:build bigquery

package syncer_test

import (
	"reflect"
	"runtime"
	"strings"
	"testing"

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
		TestCrashAtEveryStep, TestRandomHistories,
	} {
		name := runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name()
		t.Run(name[strings.LastIndexByte(name, '.')+1:], test)
	}
}
