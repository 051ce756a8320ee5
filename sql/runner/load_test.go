package runner_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sluis-cdp/sluis/sql/runner"
)

// project makes a project of files in one text.
func project(text string) fs.FS {
	files := fstest.MapFS{"dbt_project.yml": {Data: []byte("name: p\n")}}
	for _, f := range txtar.Parse([]byte(text)).Files {
		files[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return files
}

// TestLoadRefuses checks that each fault is found with its file, its line and
// a hint.
func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name, project string
		want          []string
	}{
		{"unknown model", "-- models/a.sql --\nselect 1\nfrom {{ ref('b') }}\n", []string{`models/a.sql:2: there is no model or seed "b"`}},
		{"unknown source", "-- models/a.sql --\n\nselect 1 from {{ source('s', 't') }}\n", []string{`models/a.sql:2: there is no source s.t`}},
		{"circle", "-- models/a.sql --\nselect 1 from {{ ref('b') }}\n-- models/b.sql --\nselect 1 from {{ ref('a') }}\n", []string{"models refer to each other in a circle: a → b → a"}},
		{"itself", "-- models/a.sql --\nselect 1 from {{ ref('a') }}\n", []string{"circle: a → a"}},
		{"same name twice", "-- models/x/a.sql --\nselect 1\n-- models/y/a.sql --\nselect 1\n", []string{`models/y/a.sql: the name "a" is taken by models/x/a.sql`}},
		{"name", "-- models/a-b.sql --\nselect 1\n", []string{`the name "a-b" must be letters`}},
		{"YAML syntax", "-- models/a.yml --\nmodels:\n  - name: [\n", []string{"models/a.yml:", "not valid YAML"}},
		{"unknown key", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    owner: me\n", []string{`models/a.yml:3: unknown key "owner" in a model`, "under meta"}},
		{"key twice", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    name: b\n", []string{`models/a.yml:3: the key "name" is there twice`}},
		{"unknown config", "-- models/a.sql --\n{{ config(materialised='table') }}\nselect 1\n", []string{`models/a.sql:1: unknown config "materialised"`}},
		{"unknown config in YAML", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    config:\n      owner: me\n", []string{`models/a.yml:4: unknown config "owner"`}},
		{"unsupported config", "-- models/a.sql --\n{{ config(schema='x') }}select 1\n", []string{`config "schema" is not supported: all models are built in one schema`}},
		{"hook", "-- models/a.sql --\n{{ config(post_hook='drop table x') }}select 1\n", []string{`config "post_hook" is not supported`}},
		{"project hook", "-- dbt_project.yml --\nname: p\non-run-start: drop table x\n", []string{"dbt_project.yml:2: hooks are not run"}},
		{"unknown project key", "-- dbt_project.yml --\nname: p\nmodel_paths: [m]\n", []string{`dbt_project.yml:2: unknown key "model_paths"`}},
		{"no name", "-- dbt_project.yml --\nversion: 1\n", []string{"dbt_project.yml:1: the project needs a name"}},
		{"config without plus", "-- dbt_project.yml --\nname: p\nmodels:\n  p:\n    materialized: table\n", []string{`dbt_project.yml:4: "materialized" must be a folder with configs: a config begins with +`}},
		{"materialization", "-- models/a.sql --\n{{ config(materialized='tabel') }}select 1\n", []string{`unknown materialization "tabel": it may be view, table`}},
		{"strategy", "-- models/a.sql --\n{{ config(materialized='incremental', incremental_strategy='microbatch') }}select 1\n", []string{`"microbatch" is not supported`}},
		{"overwrite of what", "-- models/a.sql --\n\n{{ config(materialized='incremental', incremental_strategy='insert_overwrite') }}select 1\n", []string{"models/a.sql:2: incremental_strategy \"insert_overwrite\" needs a partition_by"}},
		{"partition by a word", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    config:\n      partition_by: x\n", []string{"models/a.yml:4: partition_by must say which column"}},
		{"partition without field", "-- models/a.sql --\n{{ config(partition_by={'data_type': 'date'}) }}select 1\n", []string{"models/a.sql:1: partition_by needs a field"}},
		{"partition by type", "-- models/a.sql --\n{{ config(partition_by={'field': 'x', 'data_type': 'int64'}) }}select 1\n", []string{"models/a.sql:1: partition_by: data_type \"int64\" is not supported"}},
		{"partition by hour", "-- models/a.sql --\n{{ config(partition_by={'field': 'x', 'granularity': 'hour'}) }}select 1\n", []string{"granularity \"hour\" is not supported: use day"}},
		{"partition key", "-- models/a.sql --\n{{ config(partition_by={'field': 'x', 'copy_partitions': true}) }}select 1\n", []string{"partition_by: \"copy_partitions\" is not supported"}},
		{"five clusters", "-- models/a.sql --\n{{ config(cluster_by=['a', 'b', 'c', 'd', 'e']) }}select 1\n", []string{"models/a.sql:1: cluster_by must be one to 4 columns"}},
		{"cluster by expression", "-- models/a.sql --\n{{ config(cluster_by='lower(a)') }}select 1\n", []string{"cluster_by must be columns"}},
		{"partitions of a table", "-- models/a.sql --\n{{ config(materialized='table', partitions=[\"date '2026-03-01'\"]) }}select 1\n", []string{"models/a.sql:1: partitions are for incremental models"}},
		{"one partition", "-- models/a.sql --\n{{ config(partitions='x') }}select 1\n", []string{"partitions must be a list"}},
		{"partition filter", "-- models/a.sql --\n{{ config(require_partition_filter=true) }}select 1\n", []string{"config \"require_partition_filter\" is not supported: models and tests read whole tables"}},
		{"fixpoint", "-- models/a.sql --\n{{ config(materialized='fixpoint') }}select 1\n", []string{"meta.fixpoint.kind: components"}},
		{"no such model", "-- models/a.yml --\nmodels:\n\n  - name: gone\n", []string{"models/a.yml:3: there is no file for the model gone"}},
		{"unknown test", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: x\n        data_tests: [not_nul]\n", []string{`models/a.yml:5: unknown test "not_nul"`}},
		{"arguments", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: x\n        data_tests:\n          - accepted_values: {values: [1]}\n", []string{`models/a.yml:6: unknown key "values" in the test accepted_values: it may have arguments`}},
		{"argument of a test", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: x\n        data_tests:\n          - unique: {arguments: {of: y}}\n", []string{`models/a.yml:6: the test unique has no argument "of": it may have column_name`}},
		{"error in a test's macro", "-- macros/t.sql --\n{% test odd(model) %}\n{{ exceptions.raise_compiler_error('not of this') }}{% endtest %}\n-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    data_tests:\n      - odd\n", []string{"models/a.yml:4: not of this"}},
		{"severity", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: x\n        data_tests:\n          - unique: {config: {severity: fatal}}\n", []string{"models/a.yml:6: the test unique: severity must be error or warn"}},
		{"bound", "-- tests/a.sql --\n\n{{ config(error_if='many') }}select 1\n", []string{`tests/a.sql:2: error_if must compare the number of rows with another, as in ">10"`}},
		{"limit", "-- tests/a.sql --\n{{ config(limit=0) }}select 1\n", []string{"tests/a.sql:1: limit must be a number of rows"}},
		{"where of a query", "-- tests/a.sql --\n{{ config(where='x') }}select 1\n", []string{"tests/a.sql:1: where is for generic tests"}},
		{"stored failures", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: x\n        data_tests:\n          - unique: {config: {store_failures: true}}\n", []string{"models/a.yml:6: the test unique: store_failures is not supported, since the rows would be kept where no erasure looks"}},
		{"missing argument", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: x\n        data_tests: [relationships]\n", []string{"the test relationships needs to, under arguments"}},
		{"contract", "-- models/a.sql --\nselect 1\n-- models/a.yml --\nmodels:\n  - name: a\n    config:\n      contract: true\n", []string{"models/a.yml:4: contract must be {enforced: true}"}},
		{"contract without columns", "-- models/a.sql --\n{{ config(contract={'enforced': true}) }}select 1 as i\n", []string{"models/a.sql:1: the contract of a has no columns"}},
		{"contract of what grows", "-- models/a.sql --\n\n{{ config(materialized='incremental', contract={'enforced': true}) }}select 1 as i\n", []string{"models/a.sql:2: beside a contract dbt wants config on_schema_change='fail'"}},
		{"change of columns", "-- models/a.sql --\n{{ config(materialized='incremental', on_schema_change='sync_all_columns') }}select 1 as i\n", []string{`models/a.sql:1: on_schema_change "sync_all_columns" is not supported: use fail`}},
		{"contract without types", "-- models/a.sql --\n{{ config(contract={'enforced': true}) }}select 1 as i\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: i\n", []string{"models/a.yml:4: the column i of a needs a data_type"}},
		{"type of no kind", "-- models/a.sql --\nselect 1 as i\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: i\n        data_type: \"{{ '' }}\"\n", []string{"models/a.yml:5: data_type must be the name of a type"}},
		{"type with Jinja that fails", "-- models/a.sql --\nselect 1 as i\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: i\n        data_type: \"{{ var('nope') }}\"\n", []string{`models/a.yml:5: the var "nope" has no value`}},
		{"constraint", "-- models/a.sql --\nselect 1 as i\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: i\n        constraints:\n          - type: not_null\n", []string{"models/a.yml:5: constraints are not supported, since BigQuery does not enforce them: use data_tests"}},
		{"constraint of a model", "-- models/a.sql --\nselect 1 as i\n-- models/a.yml --\nmodels:\n  - name: a\n    constraints: []\n", []string{"models/a.yml:3: constraints are not supported"}},
		{"column twice", "-- models/a.sql --\nselect 1 as i\n-- models/a.yml --\nmodels:\n  - name: a\n    columns:\n      - name: i\n      - name: i\n", []string{"models/a.yml:5: the column i of the model a is described twice"}},
		{"freshness by nothing", "-- models/a.yml --\nsources:\n  - name: s\n    freshness: {warn_after: {count: 1, period: day}}\n    tables:\n      - name: t\n", []string{"models/a.yml:5: freshness needs a loaded_at_field or a loaded_at_query"}},
		{"freshness by what BigQuery alone knows", "-- models/a.yml --\nsources:\n  - name: s\n    tables:\n      - name: t\n        loaded_at_field: null\n", []string{"models/a.yml:5: loaded_at_field must be SQL"}},
		{"freshness by two things", "-- models/a.yml --\nsources:\n  - name: s\n    loaded_at_field: a\n    config:\n      loaded_at_query: select 1\n    tables: [{name: t}]\n", []string{"models/a.yml:5: there are both loaded_at_field and loaded_at_query: remove one"}},
		{"freshness of no period", "-- models/a.yml --\nsources:\n  - name: s\n    loaded_at_field: a\n    freshness:\n      warn_after: {count: 1, period: week}\n      error_after: {count: 1.5, period: day}\n    tables: [{name: t}]\n", []string{"models/a.yml:5: warn_after must be a count and a period, which is minute, hour or day", "models/a.yml:6: error_after must be"}},
		{"freshness misspelt", "-- models/a.yml --\nsources:\n  - name: s\n    freshness:\n      fail_after: {count: 1, period: day}\n    tables: [{name: t}]\n", []string{`models/a.yml:4: unknown key "fail_after" in freshness`}},
		{"config of a source", "-- models/a.yml --\nsources:\n  - name: s\n    config:\n      enabled: false\n    tables: [{name: t}]\n", []string{`models/a.yml:4: unknown key "enabled" in the config of a source`}},
		{"loaded_at_query of a model", "-- models/b.sql --\nselect 1\n-- models/a.yml --\nsources:\n  - name: s\n    tables:\n      - name: t\n        loaded_at_query: select 1 from {{ ref('b') }}, {{ source('s', 'u') }}\n", []string{"models/a.yml:5: loaded_at_query reads b", "models/a.yml:5: there is no source s.u"}},
		{"loaded_at_query that fails", "-- models/a.yml --\nsources:\n  - name: s\n    tables:\n      - name: t\n        loaded_at_query: select {{ nope }}\n", []string{"models/a.yml:5:", "nope"}},
		{"test of a source", "-- models/a.yml --\nsources:\n  - name: s\n    tables:\n      - name: t\n        columns:\n          - name: x\n            data_tests: [unique]\n", []string{"models/a.yml:7: data_tests of a source is not looked at"}},
		{"Jinja syntax", "-- models/a.sql --\nselect\n{% if x %}1\n", []string{"models/a.sql:"}},
		{"open braces", "-- models/a.sql --\nselect\n{{ ref('b'\n", []string{"models/a.sql:2: the braces are not closed"}},
		{"undefined", "-- models/a.sql --\nselect\n  {{ nope }}\n", []string{"models/a.sql:2:", "nope"}},
		{"raised", "-- models/a.sql --\n\n{{ exceptions.raise_compiler_error('not like this') }}\n", []string{"models/a.sql:2: not like this"}},
		{"var", "-- models/a.sql --\nselect {{ var('nope') }}\n", []string{`models/a.sql:1: the var "nope" has no value: add it under vars`}},
		{"environment", "-- models/a.sql --\nselect '{{ env_var('HOME') }}'\n", []string{`models/a.sql:1: env_var("HOME") is refused`}},
		{"environment not set", "-- models/a.sql --\nselect '{{ env_var('SLUIS_X') }}'\n", []string{"SLUIS_X is not set"}},
		{"macro twice", "-- macros/a.sql --\n{% macro m() %}1{% endmacro %}\n-- macros/b.sql --\n{% macro m() %}2{% endmacro %}\n", []string{`macros/b.sql:1: the macro "m" is defined twice in the project, also in macros/a.sql:1`}},
		{"macro without end", "-- macros/a.sql --\n{% macro m() %}{{ m() }}{% endmacro %}\n-- models/a.sql --\nselect {{ m() }}\n", []string{"macros call each other without end"}},
		{"audience undeclared", "-- models/audiences/a.sql --\nselect 1\n", []string{"models/audiences/a.sql: the audience a must say whom it lists and what for"}},
		{"audience faults", "-- dbt_project.yml --\nname: p\nvars: {purposes: [marketing]}\n-- models/audiences/a.sql --\n{{ config(meta={'audience': {'entity': 'robot', 'purpose': 'fun'}}) }}select 1\n", []string{"entity: profile", "purpose, one of marketing", "min_size of at least 1"}},
		{"audience elsewhere", "-- models/a.sql --\n{{ config(meta={'audience': {'entity': 'profile'}}) }}select 1\n", []string{"needs meta.audience.purpose"}},
		{"audience of another purpose", "-- dbt_project.yml --\nname: p\nvars: {purposes: [marketing, sale]}\n-- models/consent_profile.sql --\nselect 1\n-- models/audiences/buyers.sql --\n{{ config(meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1}}) }}select 1\n-- models/audiences/b.sql --\n{{ config(meta={'audience': {'entity': 'profile', 'purpose': 'sale', 'min_size': 1}}) }}\nselect * from {{ ref('buyers') }}\n", []string{"models/audiences/b.sql:2: the audience b is for sale and reads buyers, which is for marketing"}},
		{"audience with a limit misspelt", "-- dbt_project.yml --\nname: p\nvars: {purposes: [marketing]}\n-- models/consent_profile.sql --\nselect 1\n-- models/audiences/a.sql --\n{{ config(meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1, 'minimum': 50}}) }}select 1\n", []string{"models/audiences/a.sql: the audience a has an unknown meta.audience.minimum"}},
		{"audience of people with a limit of accounts", "-- dbt_project.yml --\nname: p\nvars: {purposes: [marketing]}\n-- models/consent_profile.sql --\nselect 1\n-- models/audiences/a.sql --\n{{ config(meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1, 'min_members_consenting': 2}}) }}select 1\n", []string{"min_members_consenting that is not at least 1, of accounts"}},
		{"audience of accounts without events", "-- dbt_project.yml --\nname: p\nvars: {purposes: [marketing]}\n-- models/consent_profile.sql --\nselect 1\n-- models/audiences/a.sql --\n{{ config(meta={'audience': {'entity': 'account', 'purpose': 'marketing', 'min_size': 1}}) }}select 1\n", []string{`no model or seed "profile_events"`}},
		{"audience not listed", "-- dbt_project.yml --\nname: p\nvars:\n  purposes: [marketing]\n  audiences: [b]\n-- models/consent_profile.sql --\nselect 1\n-- models/audiences/a.sql --\n{{ config(meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1}}) }}select 1\n", []string{"dbt_project.yml:4: the audience a (models/audiences/a.sql) is not listed", "dbt_project.yml:4: vars.audiences lists b, and there is no such audience"}},
		{"audience of what says not what for", "-- dbt_project.yml --\nname: p\nvars: {purposes: [marketing]}\n-- models/consent_profile.sql --\nselect 1\n-- models/visits.sql --\nselect 1\n-- models/audiences/a.sql --\n{{ config(meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1}}) }}\nselect * from {{ ref('visits') }}\n", []string{"models/audiences/a.sql:2: the audience a is for marketing and reads visits, which does not say what for"}},
		{"audience of what is for another purpose", "-- dbt_project.yml --\nname: p\nvars: {purposes: [marketing]}\n-- models/consent_profile.sql --\nselect 1\n-- models/visits.sql --\n{{ config(meta={'purpose': 'analytics'}) }}select 1\n-- models/audiences/a.sql --\n{{ config(meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1}}) }}\nselect * from {{ ref('visits') }}\n", []string{"models/audiences/a.sql:2: the audience a is for marketing and reads visits, which is for analytics (meta.purpose)"}},
		{"audience without verdicts", "-- dbt_project.yml --\nname: p\nvars: {purposes: [marketing]}\n-- models/audiences/a.sql --\n{{ config(meta={'audience': {'entity': 'profile', 'purpose': 'marketing', 'min_size': 1}}) }}select 1\n", []string{`no model or seed "consent_profile"`}},
		{"all at once", "-- models/a.sql --\nselect {{ a b }}\n-- models/b.sql --\n{% include 'a' %}\n-- models/c.yml --\nmodel: []\n", []string{"models/a.sql:1:", "models/b.sql:1:", `models/c.yml:1: unknown key "model"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := runner.Load(runner.Options{Dir: project(test.project)})
			if err == nil {
				t.Fatal("the project was accepted")
			}
			if _, ok := errors.AsType[runner.Problems](err); !ok {
				t.Errorf("the error is a %T, not Problems", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestLoadNeedsProject(t *testing.T) {
	if _, err := runner.Load(runner.Options{Dir: fstest.MapFS{}}); err == nil || !strings.Contains(err.Error(), "dbt_project.yml") {
		t.Errorf("an empty folder: %v", err)
	}
}
