package runner

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// partitioning is config.partition_by: a table is cut by the day of a column.
// On DuckDB, which has no partitions, it only tells what a day is.
type partitioning struct {
	field string
	kind  string // "timestamp" or "date", of the column
}

// maxClusterColumns is BigQuery's limit.
const maxClusterColumns = 4

const insertOverwrite = "insert_overwrite"

// fault is something wrong with a node's config.
type fault struct {
	key     string // of the config, to find the line; may be empty
	message string
}

// readLayout checks partition_by, cluster_by and partitions, and takes them
// over.
func (n *Node) readLayout() []fault {
	var faults []fault
	if declared, ok := n.config["partition_by"]; ok && declared != nil {
		p, err := readPartitioning(declared)
		if err != nil {
			faults = append(faults, fault{"partition_by", err.Error()})
		}
		n.partitioning = p
	}
	n.cluster = asTexts(n.config["cluster_by"])
	switch declared := n.config["cluster_by"]; {
	case declared != nil && len(n.cluster) == 0, len(n.cluster) > maxClusterColumns:
		faults = append(faults, fault{"cluster_by", fmt.Sprintf("cluster_by must be one to %d columns", maxClusterColumns)})
	case slices.ContainsFunc(n.cluster, func(column string) bool { return !identifier.MatchString(column) }):
		faults = append(faults, fault{"cluster_by", "cluster_by must be columns, named with letters, digits and _"})
	}
	overwrites := n.Materialized == Incremental && n.config.text("incremental_strategy") == insertOverwrite
	if overwrites && n.partitioning == nil && len(faults) == 0 {
		faults = append(faults, fault{"incremental_strategy", "incremental_strategy \"insert_overwrite\" needs a partition_by, which says what it replaces"})
	}
	if declared := n.config["partitions"]; declared != nil {
		if _, ok := declared.([]any); !ok {
			faults = append(faults, fault{"partitions", "partitions must be a list of SQL constants, such as date '2026-03-01'"})
		} else if !overwrites {
			faults = append(faults, fault{"partitions", "partitions are for incremental models of the strategy insert_overwrite only"})
		}
	}
	return faults
}

func readPartitioning(declared any) (*partitioning, error) {
	const example = "as in partition_by={'field': 'received_at', 'data_type': 'timestamp', 'granularity': 'day'}"
	keys, ok := declared.(map[string]any)
	if !ok {
		return nil, errors.New("partition_by must say which column, " + example)
	}
	text := map[string]string{"data_type": "date", "granularity": "day"} // dbt's defaults
	for key, value := range keys {
		word, ok := value.(string)
		if !slices.Contains([]string{"field", "data_type", "granularity"}, key) || !ok {
			return nil, fmt.Errorf("partition_by: %q is not supported, %s", key, example)
		}
		text[key] = strings.ToLower(word)
		if key == "field" {
			text[key] = word
		}
	}
	switch {
	case !identifier.MatchString(text["field"]):
		return nil, errors.New("partition_by needs a field of letters, digits and _, " + example)
	case text["data_type"] != "timestamp" && text["data_type"] != "date":
		return nil, fmt.Errorf("partition_by: data_type %q is not supported: use timestamp or date", text["data_type"])
	case text["granularity"] != "day":
		return nil, fmt.Errorf("partition_by: granularity %q is not supported: use day", text["granularity"])
	}
	return &partitioning{field: text["field"], kind: text["data_type"]}, nil
}

// layout is the clause of CREATE TABLE that lays a node's table out.
func (n *Node) layout(dialect string) string {
	if dialect != "bigquery" {
		return ""
	}
	clause := ""
	if n.partitioning != nil {
		clause += " partition by " + n.partitioning.of(dialect, "")
	}
	if len(n.cluster) > 0 {
		clause += " cluster by " + strings.Join(quoteAll(dialect, n.cluster), ", ")
	}
	return clause
}

// of is the partition that a row is in. prefix is that of the column, such as
// "t.".
func (p partitioning) of(dialect, prefix string) string {
	column := prefix + quoteAll(dialect, []string{p.field})[0]
	switch {
	case p.kind == "date":
		return column
	case dialect == "bigquery":
		return "timestamp_trunc(" + column + ", day)"
	}
	return "date_trunc('day', " + column + ")"
}

// constant writes a day as the partition that it is.
func (p partitioning) constant(dialect, day string) string {
	switch {
	case p.kind == "date":
		return "date " + literal(dialect, day)
	case dialect == "bigquery":
		return "timestamp " + literal(dialect, day+" 00:00:00+00")
	}
	return "timestamptz " + literal(dialect, day+" 00:00:00+00")
}

// replaced are the partitions that a run of insert_overwrite replaces.
type replaced struct {
	constants []string
	null      bool // also that of the rows without a day
}

// partitionsOf lists the partitions that the rows of a table fall into. They
// are asked for and then written as constants, since BigQuery prunes by nothing
// else.
func (b builder) partitionsOf(table string) (replaced, error) {
	day := b.node.partitioning.of(b.d.Dialect(), "")
	rows, err := warehouse.Collect(b.ctx, b.d, fmt.Sprintf("select distinct cast(cast(%s as date) as string) as day from %s", day, relation(table)))
	if err != nil {
		return replaced{}, fmt.Errorf("find the partitions to replace: %w", err)
	}
	var r replaced
	for _, row := range rows {
		if text, ok := row[0].(string); ok {
			r.constants = append(r.constants, b.node.partitioning.constant(b.d.Dialect(), text))
		} else {
			r.null = true
		}
	}
	slices.Sort(r.constants)
	return r, nil
}

// overwrite replaces partitions of the node's table with the rows of another:
// those that config.partitions lists, or else those that the rows fall into.
// Without the list, a partition that has no rows any more is not emptied.
func (b builder) overwrite(from string, columns []string) error {
	listed := replaced{constants: asTexts(b.node.config["partitions"])}
	found, err := b.partitionsOf(from)
	if err != nil {
		return err
	}
	if len(listed.constants) == 0 {
		listed = found
	} else if err := b.within(from, listed); err != nil {
		return err
	}
	if len(listed.constants) == 0 && !listed.null {
		return nil // no rows, and nothing to empty
	}
	return b.d.Exec(b.ctx, overwriteStatement(b.d.Dialect(), relation(b.node.Name), relation(from), columns, listed.contains(b.d.Dialect(), *b.node.partitioning, "t.")))
}

// within refuses rows outside the listed partitions: they would be added again
// by each run.
func (b builder) within(from string, listed replaced) error {
	p := *b.node.partitioning
	outside, err := b.number(fmt.Sprintf("select count(*) from %s as s where not coalesce(%s, false)", relation(from), listed.contains(b.d.Dialect(), p, "s.")))
	if err != nil {
		return err
	}
	if outside > 0 {
		return fmt.Errorf("%d rows are outside of config.partitions, so that each run would add them again: filter by %s, or list all partitions", outside, p.field)
	}
	return nil
}

// contains is the condition that a row is in one of the partitions.
func (r replaced) contains(dialect string, p partitioning, prefix string) string {
	var conditions []string
	if len(r.constants) > 0 {
		list := strings.Join(r.constants, ", ")
		listed := p.of(dialect, prefix) + " in (" + list + ")"
		if dialect == "duckdb" && p.kind == "timestamp" {
			// By what lies before the first day and after the last, unlike by what is calculated of each row, DuckDB passes over the rest.
			listed = fmt.Sprintf("(%[1]s >= least(%[2]s) and %[1]s < greatest(%[2]s) + interval 24 hour and %[3]s)", prefix+quoteAll(dialect, []string{p.field})[0], list, listed)
		}
		conditions = append(conditions, listed)
	}
	if r.null {
		conditions = append(conditions, p.of(dialect, prefix)+" is null")
	}
	return "(" + strings.Join(conditions, " or ") + ")"
}

// overwriteStatement deletes the rows that meet a condition and inserts others,
// in one statement: a MERGE in which nothing matches. DuckDB would compare each
// row with each other to find that out, unless the condition has an equality,
// of numbers that are never equal.
func overwriteStatement(dialect, into, from string, columns []string, condition string) string {
	source, on := from, "false"
	if dialect == "duckdb" {
		source, on = "(select *, -1 - rowid as __never from "+from+")", "t.rowid = s.__never"
	}
	list := strings.Join(columns, ", ")
	return fmt.Sprintf("merge into %s as t using %s as s on %s when not matched by source and %s then delete when not matched then insert (%s) values (s.%s)",
		into, source, on, condition, list, strings.Join(columns, ", s."))
}

// errRelaid is part of BigQuery's message where CREATE OR REPLACE meets a table
// that is partitioned or clustered otherwise.
const errRelaid = "different partitioning spec"

// replace makes the node's table anew. BigQuery cannot do so at once where the
// layout changed: then the rows are computed first, and the table is missing
// for the moment that copying them takes.
func (b builder) replace(query string) error {
	create := func(query string) error {
		return b.d.Exec(b.ctx, "create or replace table "+relation(b.node.Name)+b.node.layout(b.d.Dialect())+" as\n"+query)
	}
	err := create(query)
	if err == nil || !strings.Contains(inTheirWords(err), errRelaid) {
		return err
	}
	rows := b.scratch("relaid")
	defer b.dropScratch(rows)
	if err := b.create(rows, query); err != nil {
		return err
	}
	if err := b.drop(b.node.Name, isTable); err != nil {
		return fmt.Errorf("drop the table, whose partitions or clusters changed: %w", err)
	}
	if err := create("select * from " + relation(rows)); err != nil {
		return fmt.Errorf("the table was dropped, since its partitions or clusters changed, and could not be made anew; run again to build it: %w", err)
	}
	return nil
}
