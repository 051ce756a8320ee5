package googlesql

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sluis-cdp/sluis/sql/runner"
)

// everything is a project with all that the runner can be asked for, also what
// the project of Sluis itself has no use for.
func everything(change map[string]string) fstest.MapFS {
	files := map[string]string{
		"dbt_project.yml": "name: all\nvars: {purposes: [marketing]}\n",
		"models/all.yml": `
models:
  - name: events
    config: {materialized: view}
    data_tests:
      - unique_together: {arguments: {columns: [event_id, digest]}}
    columns:
      - name: event_id
        data_tests:
          - unique
          - not_null: {config: {where: "type = 'page'"}}
          - relationships: {arguments: {to: ref('kinds'), field: kind}}
      - name: type
        data_tests:
          - accepted_values: {arguments: {values: [page, "it's"]}}
      - name: kept
        data_tests:
          - accepted_values: {arguments: {values: [1, 2], quote: false}}
  - name: audience
    config: {meta: {audience: {entity: profile, purpose: marketing, min_size: 1}}}
`,
		"macros/unique_together.sql": `{% test unique_together(model, columns) %}select {{ columns | join(', ') }} from {{ model }} group by {{ columns | join(', ') }} having count(*) > 1{% endtest %}`,
		"models/sources.yml":         "sources:\n  - name: sluis\n    tables: [{name: events}]\n",
		"models/events.sql":          `select event_id, type, 1 as kept, {{ dbt.hash('event_id') }} as digest from {{ source('sluis', 'events') }}`,
		"models/inner.sql":           `{{ config(materialized='ephemeral') }}select event_id, received_at from {{ source('sluis', 'events') }}`,
		"models/merged.sql": `{{ config(materialized='incremental', unique_key=['event_id', 'day']) }}
select event_id, {{ dbt.date_trunc('day', 'received_at') }} as day, received_at as rows_at from {{ ref('inner') }} as i
{% if is_incremental() %}where received_at > (select max(rows_at) from {{ this }}){% endif %}`,
		"models/appended.sql": `{{ config(materialized='incremental', incremental_strategy='append') }}
select event_id, {{ dbt.dateadd('day', 1, 'received_at') }} as later, {{ dbt.datediff('occurred_at', 'received_at', 'hour') }} as hours,
    {{ dbt.safe_cast('event_id', dbt.type_int()) }} as number, {{ dbt.safe_cast('event_id', dbt.type_float()) }} as ratio,
    {{ dbt.safe_cast('event_id', dbt.type_boolean()) }} as truth, {{ dbt.safe_cast('event_id', dbt.type_timestamp()) }} as instant,
    {{ dbt.concat(['event_id', dbt.safe_cast('received_at', dbt.type_string())]) }} as both, {{ dbt.current_timestamp() }} as now
from {{ source('sluis', 'events') }}`,
		"models/overwritten.sql": `{{ config(materialized='incremental', incremental_strategy='insert_overwrite', cluster_by='event_id',
    partition_by={'field': 'received_at', 'data_type': 'timestamp', 'granularity': 'day'}) }}select event_id, received_at from {{ ref('inner') }} as i`,
		"models/listed.sql": `{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partitions=["date '2026-03-01'", "date '2026-03-02'"],
    partition_by={'field': 'seen_on'}) }}select event_id, cast(received_at as date) as seen_on from {{ ref('inner') }} as i`,
		"models/only_keys.sql": `{{ config(materialized='incremental', unique_key='event_id') }}select event_id from {{ ref('inner') }} as i`,
		"models/graph.sql":     `{{ config(materialized='fixpoint', meta={'fixpoint': {'kind': 'components'}}) }}select event_id as node_a, user_id as node_b from {{ source('sluis', 'events') }}`,
		"models/growing.sql": `{{ config(materialized='fixpoint', meta={'fixpoint': {'kind': 'components', 'incremental': true}}) }}
select event_id as node_a, user_id as node_b, farm_fingerprint(event_id) as evidence from {{ source('sluis', 'events') }} -- each once`,
		"models/consent_profile.sql": `{{ config(materialized='table') }}select 'p' as profile_id, 'marketing' as purpose, true as allowed`,
		"models/audience.sql":        `select profile_id from {{ ref('consent_profile') }}`,
		"seeds/kinds.csv":            "kind,n,ratio,yes,since\nemail,1,1.5,true,2026-03-01\n",
		"seeds/kinds.yml":            "seeds:\n  - name: kinds\n    config: {column_types: {ratio: double, yes: boolean, since: timestamp}}\n",
		"tests/none.sql":             `select * from {{ ref('merged') }} where day is null`,
	}
	project := fstest.MapFS{}
	for _, layer := range []map[string]string{files, change} {
		for name, content := range layer {
			project[name] = &fstest.MapFile{Data: []byte(content)}
		}
	}
	return project
}

// TestRunnerStatements has all statements of the runner analyzed: of first
// runs, of runs that add, of full refreshes, where a table becomes a view, and of
// estimates.
func TestRunnerStatements(t *testing.T) {
	d := newFake(t)
	other := map[string]string{
		"models/events.sql":          strings.Replace(string(everything(nil)["models/events.sql"].Data), "select", "{{ config(materialized='table') }}select", 1),
		"models/consent_profile.sql": `select 'p' as profile_id, 'marketing' as purpose, true as allowed`,
		"models/overwritten.sql":     `{{ config(materialized='table', cluster_by=['event_id', 'received_at']) }}select event_id, received_at from {{ ref('inner') }} as i`,
	}
	delete(other, "models/all.yml")
	for _, options := range []runner.Options{
		{Dir: everything(nil)},
		{Dir: everything(nil)},
		{Dir: everything(nil), FullRefresh: true},
		{Dir: everything(other)},
	} {
		project := load(t, options)
		built, err := project.Run(t.Context(), d, "")
		if err := errors.Join(err, built.Err()); err != nil {
			t.Fatal(err)
		}
		tested, err := project.Test(t.Context(), d, "")
		if err := errors.Join(err, tested.Err()); err != nil {
			t.Fatal(err)
		}
		if _, err := project.Estimate(t.Context(), d, ""); err != nil {
			t.Fatal(err)
		}
		if err := d.err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, shape := range []string{
		"create or replace table sluis_models.kinds__loading (`kind` STRING, `n` INT64, `ratio` FLOAT64, `yes` BOOL, `since` TIMESTAMP)",
		"create or replace view sluis_models.events",
		"drop view if exists sluis_models.events",
		"drop table if exists sluis_models.consent_profile",
		"merge into sluis_models.merged as t using sluis_models.merged__new",
		"insert into sluis_models.appended",
		"create or replace table sluis_models.overwritten partition by timestamp_trunc(`received_at`, day) cluster by `event_id` as",
		"merge into sluis_models.overwritten as t using sluis_models.overwritten__new as s on false when not matched by source and (timestamp_trunc(t.`received_at`, day) in (timestamp '2026-03-01 00:00:00+00') or timestamp_trunc(t.`received_at`, day) is null) then delete",
		"create or replace table sluis_models.listed partition by `seen_on` as",
		"merge into sluis_models.listed as t using sluis_models.listed__new as s on false when not matched by source and (t.`seen_on` in (date '2026-03-01', date '2026-03-02')) then delete",
		"create or replace table sluis_models.overwritten__relaid as",
		"create or replace table sluis_models.overwritten cluster by `event_id`, `received_at` as\nselect * from sluis_models.overwritten__relaid",
		"create or replace table sluis_models.graph__hooks1_1 as",
		"create or replace table sluis_models.graph__roots0 as",
		"create or replace table sluis_models.growing__members as",
		"merge into sluis_models.growing as t using (select n.*",
		"select count(*) from (select a.profile_id from sluis_models.audience__candidate",
		"merge into sluis_models.merged as t using (select cast(null as ",
		"select a.profile_id from (select cast(null as STRING) as `profile_id`) as a",
	} {
		if !d.saw(shape) {
			t.Errorf("no statement began with %q", shape)
		}
	}
}

// TestRefuses makes sure that what BigQuery would refuse is refused here too.
func TestRefuses(t *testing.T) {
	d := newFake(t)
	tests := []struct{ query, want string }{
		{"select nope from sluis.events", "Unrecognized name: nope"},
		{"select event_id::string from sluis.events", "Syntax error"},
		{"select * exclude (event_id) from sluis.events", "Syntax error"},
		{"select list_contains(purposes, 'x') from sluis.events", "Function not found: list_contains"},
		{"select cast(event_id as varchar) from sluis.events", "Type not found: varchar"},
		{"select 1 as a from sluis.events union select 2", "Syntax error"},
		{"select count(*) from sluis.events group by properties", "Grouping by expressions of type JSON is not allowed"},
		{"select purposes = denied from sluis.events", "Equality is not defined for arguments of type ARRAY<STRING>"},
		{"select sha256(event_id) = 'x' from sluis.events", "No matching signature for operator ="},
		{"select event_id from sluis.events qualify row_number() over () = 1 where true", "Syntax error"},
		{"select a.event_id from sluis.events as a left join (select 1 as one) as hash on true", "Unexpected keyword HASH"},
		{"select properties from sluis.events order by properties", "ORDER BY"},
		{"select cast(1 as int32)", "Type not found: int32"},
		{"from sluis.events", "Syntax error"},
		{"select cast(1 as float)", "Type not found: float"},
		{"select cast(1 as hugeint)", "Type not found: hugeint"},
		{"select 7 // 2", "Syntax error"},
		{"select 1 from sluis.events as a left join sluis.vault as v on true", "an outer join cannot be used"},
		{"select 1 from sluis.events as a full join sluis.vault as v on a.user_id = v.pseudonym or a.group_id = v.pseudonym", "an outer join cannot be used"},
		{"select 1 from sluis.events as a left join sluis.vault as v on a.user_id < v.pseudonym and v.field = 'email'", "an outer join cannot be used"},
	}
	for _, test := range tests {
		_, err := d.analyzer.Query(test.query)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", test.query, err, test.want)
		}
	}
	for _, query := range []string{
		"select 1 from sluis.events as a left join sluis.vault as v on a.user_id < v.pseudonym and upper(a.event_id) = v.field",
		"select 1 from sluis.events as a cross join sluis.vault as v",
		"select 1 from sluis.events as a left join unnest(a.purposes) as p on true",
		"select * except (properties) from sluis.events qualify row_number() over (partition by event_id order by received_at) = 1",
	} {
		if _, err := d.analyzer.Query(query); err != nil {
			t.Errorf("%s: %v", query, err)
		}
	}
}
