package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// builder makes one node's table or view.
type builder struct {
	ctx   context.Context // the builder lives for one call of build
	d     warehouse.Driver
	node  *Node
	types *types // of contracts

	inventory *inventory // of the run
}

// existingKind is what a name stands for in the warehouse.
type existingKind int

const (
	isNothing existingKind = iota
	isTable
	isView
)

// existing asks what a name stands for now.
func (b builder) existing(name string) (existingKind, error) {
	found, err := relationKinds(b.ctx, b.d, " and table_name = ?", name)
	if err != nil {
		return isNothing, fmt.Errorf("look up %s: %w", relation(name), err)
	}
	return found[name], nil
}

// relationKinds asks what the names of the models' schema stand for, all or those of a
// condition.
func relationKinds(ctx context.Context, d warehouse.Driver, which string, args ...any) (map[string]existingKind, error) {
	catalog := catalogTable(d.Dialect(), warehouse.SchemaModels, "tables")
	rows, err := warehouse.Collect(ctx, unmetered(d), "select table_name, table_type from "+catalog+" where table_schema = ?"+which, append([]any{warehouse.SchemaModels}, args...)...)
	if err != nil {
		return nil, err
	}
	found := make(map[string]existingKind, len(rows))
	for _, row := range rows {
		name, _ := row[0].(string)
		if found[name] = isTable; row[1] == "VIEW" {
			found[name] = isView
		}
	}
	return found, nil
}

// inventory is what there was when a run began to build. Each node asks once, of itself,
// and before it is built: one question answers them all, where each would be a job.
type inventory struct {
	mu    sync.Mutex
	found map[string]existingKind // nil until somebody asked, and was answered
}

// before tells what the node's name stood for before the run.
func (b builder) before() (existingKind, error) {
	b.inventory.mu.Lock()
	defer b.inventory.mu.Unlock()
	if b.inventory.found == nil {
		found, err := relationKinds(b.ctx, b.d, "")
		if err != nil {
			return isNothing, fmt.Errorf("look up what there is in %s: %w", warehouse.SchemaModels, err)
		}
		b.inventory.found = found
	}
	return b.inventory.found[b.node.Name], nil
}

// makeRoom drops a relation of the other kind, which cannot be replaced.
func (b builder) makeRoom(wanted existingKind) error {
	existing, err := b.before()
	if err != nil || existing == isNothing || existing == wanted {
		return err
	}
	return b.drop(b.node.Name, existing)
}

func (b builder) drop(name string, existing existingKind) error {
	kind := "table"
	if existing == isView {
		kind = "view"
	}
	return unmetered(b.d).Exec(b.ctx, fmt.Sprintf("drop %s if exists %s", kind, relation(name)))
}

func (b builder) view(query string) error {
	if err := b.checkContract(query); err != nil {
		return err
	}
	if err := b.makeRoom(isView); err != nil {
		return err
	}
	return b.d.Exec(b.ctx, "create or replace view "+relation(b.node.Name)+" as\n"+query)
}

func (b builder) table(query string) (rows int64, message string, err error) {
	if err := b.checkContract(query); err != nil {
		return -1, "", err
	}
	if err := b.makeRoom(isTable); err != nil {
		return -1, "", err
	}
	if err := b.replace(query); err != nil {
		return -1, "", err
	}
	rows, err = b.count(b.node.Name)
	return rows, "", err
}

func (b builder) create(name, query string) error {
	return b.d.Exec(b.ctx, "create or replace table "+relation(name)+" as\n"+query)
}

func (b builder) count(name string) (int64, error) {
	return b.number("select count(*) from " + relation(name))
}

func (b builder) number(query string) (int64, error) {
	rows, err := warehouse.Collect(b.ctx, b.d, query)
	if err != nil {
		return -1, err
	}
	if len(rows) == 1 && len(rows[0]) == 1 {
		if n, ok := rows[0][0].(int64); ok {
			return n, nil
		}
	}
	return -1, errors.New("the warehouse did not answer with a number")
}

// scratch is the name of a table of a build's own. The caller drops it.
func (b builder) scratch(suffix string) string { return b.node.Name + "__" + suffix }

// dropScratch drops tables of the build's own, also when it was cancelled.
func (b builder) dropScratch(names ...string) {
	b.ctx = context.WithoutCancel(b.ctx)
	for _, name := range names {
		b.drop(name, isTable) //nolint:errcheck // the next build replaces it
	}
}

// add runs an incremental model that has run before. Its new rows are first
// computed into a table, then brought in by one statement.
func (b builder) add(query string) (rows int64, message string, err error) {
	if err := b.checkContract(query); err != nil {
		return -1, "", err
	}
	fresh := b.scratch("new")
	defer b.dropScratch(fresh)
	if err := b.create(fresh, query); err != nil {
		return -1, "", err
	}
	have, err := b.d.Columns(b.ctx, warehouse.SchemaModels, b.node.Name)
	if err != nil {
		return -1, "", err
	}
	got, err := b.d.Columns(b.ctx, warehouse.SchemaModels, fresh)
	if err != nil {
		return -1, "", err
	}
	if err := sameTypes(have, got); err != nil {
		return -1, "", err
	}
	if err := b.bringIn(fresh, namesOf(got)); err != nil {
		return -1, "", err
	}
	added, err := b.count(fresh)
	if err != nil {
		return -1, "", err
	}
	rows, err = b.count(b.node.Name)
	return rows, fmt.Sprintf("%d new or changed", added), err
}

// bringIn adds the rows of a table with these columns to the node's, as the
// strategy says.
func (b builder) bringIn(from string, columns []string) error {
	if b.node.config.text("incremental_strategy") == insertOverwrite {
		return b.overwrite(from, quoteAll(b.d.Dialect(), columns))
	}
	return b.d.Exec(b.ctx, b.addition(relation(from), columns))
}

// addition is the statement that brings rows in from another relation, but for
// insert_overwrite.
func (b builder) addition(from string, columns []string) string {
	keys := asTexts(b.node.config["unique_key"])
	switch b.node.config.text("incremental_strategy") {
	case "append":
		keys = nil
	case "delete+insert":
		return replaceStatement(b.d.Dialect(), relation(b.node.Name), from, columns, keys, b.node.husk())
	}
	return addStatement(relation(b.node.Name), from, quoteAll(b.d.Dialect(), columns), quoteAll(b.d.Dialect(), keys))
}

func namesOf(columns []warehouse.Column) []string {
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = column.Name
	}
	return names
}

// quoteAll quotes columns, whose names may be words of SQL.
func quoteAll(dialect string, columns []string) []string {
	mark := `"`
	if dialect == "bigquery" {
		mark = "`"
	}
	quoted := make([]string, len(columns))
	for i, column := range columns {
		quoted[i] = mark + column + mark
	}
	return quoted
}

// literal writes a text as a constant.
func literal(dialect, text string) string {
	if dialect == "bigquery" {
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`).Replace(text) + "'"
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// addStatement inserts rows, and replaces those with the same keys. Columns
// are quoted.
func addStatement(into, from string, columns, keys []string) string {
	list := strings.Join(columns, ", ")
	if len(keys) == 0 {
		return fmt.Sprintf("insert into %s (%s) select %s from %s", into, list, list, from)
	}
	var on, set, values []string
	for _, key := range keys {
		on = append(on, "t."+key+" = s."+key)
	}
	for _, column := range columns {
		values = append(values, "s."+column)
		if !slices.Contains(keys, column) {
			set = append(set, column+" = s."+column)
		}
	}
	statement := fmt.Sprintf("merge into %s as t using %s as s on %s", into, from, strings.Join(on, " and "))
	if len(set) > 0 {
		statement += " when matched then update set " + strings.Join(set, ", ")
	}
	return statement + fmt.Sprintf(" when not matched then insert (%s) values (%s)", list, strings.Join(values, ", "))
}

// replaceStatement deletes all rows whose keys are among those of others, and
// inserts these, in one statement: a MERGE whose source has the rows to be
// inserted, which match nothing, and each key once, which matches what goes. Rows
// without a value in the column husk, if there is one, only delete.
func replaceStatement(dialect, into, from string, columns, keys []string, husk string) string {
	quoted, quotedKeys := quoteAll(dialect, columns), quoteAll(dialect, keys)
	var on, none, some []string
	for i, key := range quotedKeys {
		on = append(on, fmt.Sprintf("t.%s = s.__key%d", key, i))
		none = append(none, fmt.Sprintf("nullif(n.%s, n.%s) as __key%d", key, key, i))
		some = append(some, fmt.Sprintf("n.%s as __key%d", key, i))
	}
	inserted := "true"
	if husk != "" {
		inserted = "n." + quoteAll(dialect, []string{husk})[0] + " is not null"
	}
	source := fmt.Sprintf("select n.*, true as __new, %s from %s as n where %s union all select n.*, false as __new, %s from %s as n where true qualify row_number() over (partition by n.%s) = 1",
		strings.Join(none, ", "), from, inserted, strings.Join(some, ", "), from, strings.Join(quotedKeys, ", n."))
	return fmt.Sprintf("merge into %s as t using (%s) as s on %s when matched then delete when not matched and s.__new then insert (%s) values (s.%s)",
		into, source, strings.Join(on, " and "), strings.Join(quoted, ", "), strings.Join(quoted, ", s."))
}

// audience publishes an audience after its members were checked. If one is
// wrong, the audience is withdrawn: what was published before is older still.
// A check that a budget forbids finds nobody wrong, and nothing is withdrawn.
func (b builder) audience(query string) (rows int64, message string, err error) {
	candidate := b.scratch("candidate")
	defer b.dropScratch(candidate)
	if err := b.create(candidate, query); err != nil {
		return -1, "", err
	}
	if err := b.checkAudience(candidate); err != nil {
		if _, ok := errors.AsType[*OverBudgetError](err); ok {
			return -1, "", err
		}
		existing, lookup := b.existing(b.node.Name)
		if lookup == nil && existing != isNothing {
			lookup = b.drop(b.node.Name, existing)
		}
		return -1, "", errors.Join(err, lookup)
	}
	if b.node.Materialized == View {
		rows, err := b.count(candidate)
		if err != nil {
			return -1, "", err
		}
		return rows, "", b.view(query)
	}
	return b.table("select * from " + relation(candidate))
}

// checkAudience returns an error unless each member consents to the purpose
// and the audience is empty or large enough.
func (b builder) checkAudience(name string) error {
	a := b.node.Audience
	wrong, err := b.number("select count(*) from (" + a.consentQuery(b.d.Dialect(), relation(name)) + ") as wrong")
	switch {
	case err != nil:
		return fmt.Errorf("check consent: %w", err)
	case wrong > 0 && a.Entity == EntityAccount:
		return fmt.Errorf("of %d accounts fewer than %d members consent to %s, so none is published: build the audience with the macro audience_members", wrong, a.MinMembersConsenting, a.Purpose)
	case wrong > 0:
		return fmt.Errorf("%d members do not consent to %s, so nobody is published: build the audience with the macro audience_members", wrong, a.Purpose)
	}
	size, err := b.count(name)
	if err != nil {
		return err
	}
	if size > 0 && size < int64(a.MinSize) {
		return fmt.Errorf("%d members are fewer than min_size (%d), so nobody is published: build the audience with the macro audience_members", size, a.MinSize)
	}
	return nil
}

const (
	// consentModel has the verdicts that audiences are held against, eventsModel
	// who belongs to which account.
	consentModel = "consent_profile"
	eventsModel  = "profile_events"
	// consentHook does for dbt what checkAudience does here.
	consentHook = "{{ audience_check(ref('consent_profile')) }}"
)

// consentQuery finds members of a relation who do not consent, or accounts of
// which too few do. It joins the verdict in its own way, not by the macro that
// it checks.
func (a *Audience) consentQuery(dialect, members string) string {
	purpose := literal(dialect, a.Purpose)
	if a.Entity != EntityAccount {
		return fmt.Sprintf(`select a.profile_id from %s as a left join %s as c on c.profile_id = a.profile_id and c.purpose = %s and c.allowed where c.profile_id is null`,
			members, relation(consentModel), purpose)
	}
	usable := fmt.Sprintf("list_contains(e.purposes, %s)", purpose)
	if dialect == "bigquery" {
		usable = purpose + " in unnest(e.purposes)"
	}
	return fmt.Sprintf(`select a.account_id from %s as a left join (select e.group_id, count(distinct e.profile_id) as n from %s as e join %s as c on c.profile_id = e.profile_id and c.purpose = %s and c.allowed where %s group by e.group_id) as m on m.group_id = a.account_id where coalesce(m.n, 0) < %d`,
		members, relation(eventsModel), relation(consentModel), purpose, usable, a.MinMembersConsenting)
}
