package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluis-cdp/sluis/sql/runner/artifact"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// loading is what YAML says of when the rows of a source's table were loaded, and
// of how old the newest may be. dbt has four places for it, each of which goes
// before the last: a source, its config, a table of it, and the config of that.
type loading struct {
	forgotten bool                     // freshness is null: what was said before is not
	ages      map[string]*artifact.Age // by warn_after and error_after; nil for null
	filter    map[string]string        // SQL by dialect, with its Jinja rendered
	field     map[string]string        // loaded_at_field, likewise
	query     *loadedAtQuery
}

// loadedAtQuery is a query whose one value is when the newest row was loaded. Its
// Jinja may name the table as this, and other sources.
type loadedAtQuery struct {
	template template
	source   string
	path     string
	line     int
}

// freshnessKeys are those of a source, or of its config, that loading reads.
var freshnessKeys = []string{"freshness", "loaded_at_field", "loaded_at_query"}

// loadLoading reads one of the freshnessKeys.
func (l *loader) loadLoading(f *yamlFile, e entry, into *loading) {
	if e.key != "freshness" && (e.node.Tag == "!!null" || f.text(e.node, e.key) == "") {
		f.report(&yaml.Node{Line: e.line}, "%s must be SQL: without it dbt asks BigQuery when the table was written to, and DuckDB cannot tell", e.key)
		return
	}
	switch e.key {
	case "loaded_at_field":
		into.field = l.inDialects(f, e.node)
	case "loaded_at_query":
		parsed, problems := l.engine.parse(f.path, f.text(e.node, e.key))
		if len(problems) > 0 {
			l.problem(f.path, e.node.Line, "%s", problems[0].Message)
			return
		}
		into.query = &loadedAtQuery{parsed, f.text(e.node, e.key), f.path, e.node.Line}
	case "freshness":
		into.forgotten, into.ages = e.node.Tag == "!!null", map[string]*artifact.Age{}
		for _, part := range f.entries(e.node, "freshness", "warn_after", "error_after", "filter") {
			if part.key == "filter" {
				into.filter = l.inDialects(f, part.node)
			} else {
				into.ages[part.key] = l.age(f, part.node, part.key)
			}
		}
	}
}

// loadSourceConfig reads the config of a source or of one of its tables. Keys of
// dbt's that would make a difference here, and do not, are refused.
func (l *loader) loadSourceConfig(f *yamlFile, node *yaml.Node, into *loading) {
	for _, e := range f.entries(node, "the config of a source", append([]string{"meta"}, freshnessKeys...)...) {
		if e.key != "meta" {
			l.loadLoading(f, e, into)
		}
	}
}

// inDialects renders a text for each dialect.
func (l *loader) inDialects(f *yamlFile, node *yaml.Node) map[string]string {
	texts := map[string]string{}
	for _, dialect := range dialects {
		texts[dialect] = strings.TrimSpace(l.renderText(f, node, dialect))
	}
	return texts
}

// age reads {count: 12, period: hour}, whose values may be Jinja; null is none.
func (l *loader) age(f *yamlFile, node *yaml.Node, what string) *artifact.Age {
	if node.Tag == "!!null" {
		return nil
	}
	age := &artifact.Age{}
	for _, e := range f.entries(node, what, "count", "period") {
		text := l.renderText(f, e.node, dialects[0])
		if e.key == "period" {
			age.Period = &text
		} else if count, err := strconv.Atoi(text); err == nil && count >= 0 {
			age.Count = &count
		}
	}
	if age.Count == nil || age.Period == nil || periods[*age.Period] == 0 {
		f.report(node, "%s must be a count and a period, which is minute, hour or day: {count: 12, period: hour}", what)
	}
	return age
}

var periods = map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}

// exceeded tells whether something so many seconds old is older.
func exceeded(age *artifact.Age, seconds float64) bool {
	return age != nil && seconds > float64(*age.Count)*periods[*age.Period].Seconds()
}

// freshness is what a table of a source promises.
type freshness struct {
	warnAfter, errorAfter *artifact.Age     // nil if there is none
	filter, field         map[string]string // SQL by dialect
	query                 *loadedAtQuery    // goes before field
}

// promised tells whether there is something to hold a table to.
func (f freshness) promised() bool { return f.warnAfter != nil || f.errorAfter != nil }

// freshnessOf puts together what is said of a source, as such and in its config,
// and of a table. What they all say of both ways to tell when rows were loaded
// must be one way each, as in dbt.
func (l *loader) freshnessOf(f *yamlFile, table *yaml.Node, source, own [2]loading) freshness {
	var all freshness
	for _, said := range slices.Concat(source[:], own[:]) {
		if said.forgotten {
			all.warnAfter, all.errorAfter, all.filter = nil, nil, nil
		}
		if age, ok := said.ages["warn_after"]; ok {
			all.warnAfter = age
		}
		if age, ok := said.ages["error_after"]; ok {
			all.errorAfter = age
		}
		if said.filter != nil {
			all.filter = said.filter
		}
	}
	for _, level := range [][2]loading{source, own} {
		field, query := level[0].field, cmp.Or(level[1].query, level[0].query)
		if level[1].field != nil {
			field = level[1].field
		}
		switch {
		case field != nil && query != nil:
			f.report(&yaml.Node{Line: query.line}, "there are both loaded_at_field and loaded_at_query: remove one")
		case field != nil:
			all.field, all.query = field, nil
		case query != nil:
			all.query = query
		}
	}
	if all.promised() && all.field == nil && all.query == nil {
		f.report(table, "freshness needs a loaded_at_field or a loaded_at_query, by which both warehouses can tell when rows were loaded")
	}
	return all
}

// checkLoadedAt renders the queries of sources once, to find what is wrong with
// them before they are needed.
func (l *loader) checkLoadedAt() {
	for _, name := range slices.Sorted(maps.Keys(l.sources)) {
		query := l.sources[name].freshness.query
		if query == nil {
			continue
		}
		seen := &references{}
		if _, err := l.renderLoadedAt(name, occasion{dialect: dialects[0]}, seen); err != nil {
			l.problem(query.path, query.line, "%s", asProblem(query.path, err).Message)
		}
		if len(seen.nodes) > 0 {
			l.problem(query.path, query.line, "loaded_at_query reads %s: it may read the table, which is {{ this }}, and other sources", strings.Join(seen.nodes, ", "))
		}
		for _, other := range seen.sources {
			if _, ok := l.sources[other]; !ok {
				l.problem(query.path, query.line, "there is no source %s: declare it under sources in a file of models", other)
			}
		}
	}
}

func (p *Project) renderLoadedAt(name string, o occasion, seen *references) (string, error) {
	s := p.sources[name]
	globals := scope{occasion: o, project: p, node: &Node{Name: s.table, Kind: Source, Path: s.path}, seen: seen}.globals()
	globals["this"] = relationObject(s.schema, s.table)
	return s.freshness.query.template.render(globals)
}

// Freshness is how old the newest row of a source was.
type Freshness struct {
	LoadedAt time.Time // of that row; zero if there is none, which is as old as can be
	AskedAt  time.Time // by the warehouse's clock
	Seconds  float64   // between them
}

// Freshness asks each selected source that promises something of its freshness
// for its newest row, and holds it to that: it passes, warns or fails. Without a
// selector all sources are asked.
func (p *Project) Freshness(ctx context.Context, d warehouse.Driver, selector string) (Results, error) {
	picked, err := p.pick(cmp.Or(strings.TrimSpace(selector), "source:*"))
	if err != nil {
		return nil, err
	}
	asked, names := *p, []string{}
	asked.nodes = map[string]*Node{}
	for name, s := range p.sources {
		if picked[name] && s.freshness.promised() {
			names = append(names, name)
			asked.nodes[name] = &Node{Name: name, Kind: Source, Path: s.path}
		}
	}
	slices.Sort(names)
	results := asked.execute(plan{names: names}, func(node *Node) NodeResult { return p.askFreshness(ctx, discreet{d}, node) })
	return results, ctx.Err()
}

func (p *Project) askFreshness(ctx context.Context, d warehouse.Driver, node *Node) NodeResult {
	var found *Freshness
	result := timed(node, Passed, func() (int64, string, error) {
		query, err := p.freshnessQuery(ctx, d, node.Name)
		if err != nil {
			return -1, "", err
		}
		found, err = collectFreshness(ctx, d, query)
		return -1, "", err
	})
	if result.Status == Failed {
		return result
	}
	result.Freshness = found
	switch promised := p.sources[node.Name].freshness; {
	case exceeded(promised.errorAfter, found.Seconds):
		result.Status, result.Message = Failed, promised.tooOld(*found, "error_after", promised.errorAfter)
	case exceeded(promised.warnAfter, found.Seconds):
		result.Status, result.Message = Warned, promised.tooOld(*found, "warn_after", promised.warnAfter)
	}
	return result
}

func (f freshness) tooOld(found Freshness, key string, age *artifact.Age) string {
	switch {
	case found.LoadedAt.IsZero() && f.filter != nil:
		return fmt.Sprintf("there is no row that the filter leaves (%s: %s)", key, age)
	case found.LoadedAt.IsZero():
		return fmt.Sprintf("there is no row (%s: %s)", key, age)
	}
	return fmt.Sprintf("the newest row is of %s, %.1f hours ago (%s: %s)", found.LoadedAt.UTC().Format("2006-01-02 15:04 UTC"), found.Seconds/time.Hour.Seconds(), key, age)
}

// freshnessQuery is that of dbt's macros collect_freshness and
// collect_freshness_custom_sql.
func (p *Project) freshnessQuery(ctx context.Context, d warehouse.Driver, name string) (string, error) {
	s, dialect := p.sources[name], d.Dialect()
	if s.freshness.query != nil {
		query, err := p.renderLoadedAt(name, occasion{dialect: dialect, query: reading(ctx, d)}, nil)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("with source_query as (\n%s\n)\nselect (select * from source_query) as max_loaded_at, current_timestamp as snapshotted_at", query), nil
	}
	query := fmt.Sprintf("select max(%s) as max_loaded_at, current_timestamp as snapshotted_at from %s.%s", s.freshness.field[dialect], s.schema, s.table)
	if filter := s.freshness.filter[dialect]; filter != "" {
		query += " where " + filter
	}
	return query, nil
}

func collectFreshness(ctx context.Context, d warehouse.Driver, query string) (*Freshness, error) {
	rows, err := warehouse.Collect(ctx, d, query)
	if err != nil {
		return nil, err
	}
	if len(rows) == 1 && len(rows[0]) == 2 {
		loaded, ok := rows[0][0].(time.Time)
		asked, told := rows[0][1].(time.Time)
		if told && (ok || rows[0][0] == nil) {
			return &Freshness{loaded, asked, float64(asked.UnixMicro()-loaded.UnixMicro()) / 1e6}, nil
		}
	}
	return nil, errors.New("loaded_at_field or loaded_at_query gives no timestamp: cast it to one")
}

// SourceResults tells the results of [Project.Freshness] as dbt's sources.json
// does.
func (p *Project) SourceResults(of Invocation, results Results, now time.Time) artifact.SourceResults {
	all := artifact.SourceResults{
		Metadata: artifact.NewMetadata("sources/v3", of.ID, of.Started, now),
		Results:  []artifact.SourceResult{}, ElapsedTime: now.Sub(of.Started).Seconds(),
	}
	for _, r := range results {
		result := artifact.SourceResult{UniqueID: p.sourceID(r.Name), Status: statusIn(r)}
		if r.Freshness == nil {
			result.Status, result.Error = "runtime error", &r.Message
		} else {
			common := p.runResult(r)
			result.Measured = &artifact.Measured{
				LoadedAt: r.Freshness.LoadedAt.UTC(), AskedAt: r.Freshness.AskedAt.UTC(), Age: r.Freshness.Seconds,
				Criteria:        *p.sources[r.Name].freshness.described(of.Dialect),
				AdapterResponse: common.AdapterResponse, Timing: common.Timing, ThreadID: common.ThreadID, ExecutionTime: common.ExecutionTime,
			}
		}
		all.Results = append(all.Results, result)
	}
	return all
}

// described is what artifacts say of a promise; nil if there is none.
func (f freshness) described(dialect string) *artifact.Freshness {
	if !f.promised() {
		return nil
	}
	d := &artifact.Freshness{}
	if f.warnAfter != nil {
		d.WarnAfter = *f.warnAfter
	}
	if f.errorAfter != nil {
		d.ErrorAfter = *f.errorAfter
	}
	if filter := f.filter[dialect]; filter != "" {
		d.Filter = &filter
	}
	return d
}

// fieldIn is loaded_at_field for a dialect; nil if there is none.
func (f freshness) fieldIn(dialect string) *string {
	if f.field == nil {
		return nil
	}
	return new(f.field[dialect])
}

// queryText is loaded_at_query as it is written; nil if there is none.
func (f freshness) queryText() *string {
	if f.query == nil {
		return nil
	}
	return &f.query.source
}

// fullConfig is what dbt takes for the config of a source, as a selector or an
// artifact has it.
func (s source) fullConfig(dialect string) map[string]any {
	config := map[string]any{"enabled": true}
	if said := s.freshness.described(dialect); said != nil {
		config["freshness"] = said
	}
	if field := s.freshness.fieldIn(dialect); field != nil {
		config["loaded_at_field"] = *field
	}
	if query := s.freshness.queryText(); query != nil {
		config["loaded_at_query"] = *query
	}
	return config
}

// matchSourceStatus matches sources that have newer rows by the sources.json in
// the target folder than by that of an earlier state.
func matchSourceStatus(q query, c criterion) (func(candidate) bool, error) {
	if c.value != "fresher" {
		return nil, errors.New("the status of a source is fresher")
	}
	if q.options.State == nil || q.options.State.sources == nil {
		return nil, fmt.Errorf("it needs an earlier %s to compare with: name its folder with --state", artifact.SourcesFile)
	}
	now, err := artifact.Read[artifact.SourceResults](q.options.Target, artifact.SourcesFile)
	if err != nil {
		return nil, fmt.Errorf("it compares with what `sluis models source freshness` has written: %w", err)
	}
	before, fresher := map[string]time.Time{}, map[string]bool{}
	for _, r := range q.options.State.sources.Results {
		if r.Measured != nil {
			before[r.UniqueID] = r.LoadedAt
		}
	}
	for _, r := range now.Results {
		earlier, known := before[r.UniqueID]
		fresher[r.UniqueID] = r.Measured != nil && (!known || r.LoadedAt.After(earlier))
	}
	return func(of candidate) bool { return of.source != nil && fresher[q.sourceID(of.name)] }, nil
}
