package syncer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluis-cdp/sluis/sql/warehouse"
)

// tables lists the syncer's own tables, in the schema [warehouse.SchemaSync].
// DESIGN.md says who writes them when. None holds a value of a person's data
// but plan_changes.payload, which is emptied when the plan is done, and sealed ones
// kept.sealed, as long as somebody is at a destination.
func tables() []warehouse.Table {
	text := func(names ...string) []warehouse.Column { return columnsOf(warehouse.String, names...) }
	number := func(names ...string) []warehouse.Column { return columnsOf(warehouse.Int64, names...) }
	yesNo := func(names ...string) []warehouse.Column { return columnsOf(warehouse.Bool, names...) }
	instant := func(names ...string) []warehouse.Column { return columnsOf(warehouse.Timestamp, names...) }
	join := func(lists ...[]warehouse.Column) []warehouse.Column {
		var all []warehouse.Column
		for _, list := range lists {
			all = append(all, list...)
		}
		return all
	}
	return []warehouse.Table{
		{Name: "leases", Columns: join(text("sync", "holder", "token"), number("fence"), instant("expires_at"))},
		{Name: "plans", Columns: join(
			text("plan_id", "sync"), number("fence"), text("status", "digest", "definition", "mapping_version", "columns", "counts", "guard"),
			instant("created_at", "finished_at"))},
		{Name: "runs", Columns: join(
			text("run_id", "sync", "plan_id", "holder"), number("fence", "planned"), text("status"),
			number("added", "updated", "refreshed", "removed", "failed", "skipped", "held"),
			instant("started_at", "finished_at"))},
		{Name: "deliveries", Columns: join(
			text("sync", "run_id", "plan_id"), number("seq"), text("intent"), number("fence"),
			text("change_id", "key", "profile_id", "op", "reason", "outcome", "code", "message", "receipt", "row_hash", "mapping_version", "decision_id", "policy_version"),
			yesNo("present", "unsure"), instant("recorded_at"))},
		{Name: "receipts", Columns: join(text("sync", "intent", "receipt", "outcome", "code", "message"), number("failed_rows"), instant("settled_at"))},
		{Name: "holdouts", Columns: join(text("sync", "key", "profile_id"), yesNo("held_out"), instant("since"))},
		{Name: keptTable, Columns: join(text("sync", "key", "profile_id", "sealed"), instant("kept_at"))},
		{Name: "intents", Columns: join(text("sync", "intent"), number("fence", "n"), text("plan_id", "seqs"), yesNo("resend"), instant("announced_at"))},
		{Name: erasedTable, Columns: join(text("id"), instant("erased_at"))},
		{Name: "plan_changes", Columns: join(
			text("plan_id", "sync"), number("seq"),
			text("key", "profile_id", "kind", "op", "reason", "row_hash", "change_id", "decision_id", "policy_version", "payload"),
			yesNo("known"), number("fingerprint"), text("fingerprint_by"))},
		{Name: "state", Columns: join(
			text("sync", "key", "profile_id", "row_hash", "mapping_version"),
			yesNo("present", "unsure", "resend"),
			text("status", "op", "pending_hash", "change_id", "intent", "decision_id", "policy_version"),
			instant("acked_at"), number("attempts"), instant("first_failed_at"), text("last_error_code"),
			number("fingerprint"), text("fingerprint_by"))},
	}
}

func columnsOf(kind warehouse.Type, names ...string) []warehouse.Column {
	columns := make([]warehouse.Column, len(names))
	for i, name := range names {
		columns[i] = warehouse.Column{Name: name, Type: kind}
	}
	return columns
}

// createTables makes the tables, and the columns that those of an earlier version
// lack. If the last has all of its own, so have the others: a version that adds to another
// table moves it to the end.
func createTables(ctx context.Context, d warehouse.Driver) error {
	all := tables()
	last := all[len(all)-1]
	there, err := d.Columns(ctx, warehouse.SchemaSync, last.Name)
	if err != nil && !errors.Is(err, warehouse.ErrNoRelation) {
		return fmt.Errorf("look for the tables of %s: %w", warehouse.SchemaSync, err)
	}
	if _, ok := find(there, last.Columns[len(last.Columns)-1].Name); ok {
		return nil
	}
	for _, table := range all {
		columns := make([]string, len(table.Columns))
		for i, c := range table.Columns {
			columns[i] = c.Name + " " + c.Type.In(d.Dialect())
		}
		statement := "CREATE TABLE IF NOT EXISTS " + own(table.Name) + " (" + strings.Join(columns, ", ") + ")"
		if err := d.Exec(ctx, statement); err != nil {
			return fmt.Errorf("create the table %s: %w", own(table.Name), err)
		}
		if err := addColumns(ctx, d, table); err != nil {
			return fmt.Errorf("complete the table %s: %w", own(table.Name), err)
		}
	}
	return nil
}

// addColumns makes the columns that a table lacks, since an earlier version made it.
func addColumns(ctx context.Context, d warehouse.Driver, table warehouse.Table) error {
	there, err := d.Columns(ctx, warehouse.SchemaSync, table.Name)
	if err != nil {
		return err
	}
	for _, c := range table.Columns {
		if _, ok := find(there, c.Name); ok {
			continue
		}
		if err := d.Exec(ctx, "ALTER TABLE "+own(table.Name)+" ADD COLUMN IF NOT EXISTS "+c.Name+" "+c.Type.In(d.Dialect())); err != nil {
			return err
		}
	}
	return nil
}

func own(table string) string     { return warehouse.SchemaSync + "." + table }
func models(table string) string  { return warehouse.SchemaModels + "." + table }
func landing(table string) string { return warehouse.SchemaLanding + "." + table }

// dialect writes the few expressions in which warehouses differ.
type dialect string

const bigquery dialect = "bigquery"

// quote writes an identifier that matches the pattern identifier.
func (d dialect) quote(name string) string {
	if d == bigquery {
		return "`" + name + "`"
	}
	return `"` + name + `"`
}

func (d dialect) text(expr string) string {
	return "CAST(" + expr + " AS " + warehouse.String.In(string(d)) + ")"
}

func (d dialect) byteLength(expr string) string {
	if d == bigquery {
		return d.text("BYTE_LENGTH(" + expr + ")")
	}
	return d.text("strlen(" + expr + ")")
}

func (d dialect) md5(expr string) string {
	if d == bigquery {
		return "TO_HEX(MD5(" + expr + "))"
	}
	return "md5(" + expr + ")"
}

// fingerprints tells whether rows have fingerprints: hashes that the engine makes of their
// values as they are, in a twentieth of the time that the text takes, and an MD5 of it. As
// the next version of the engine may make others of the same values, the state has them
// beside the row hash and with the version, and only for a first look: a row whose
// fingerprint differs may be the same, and one whose fingerprint does not is.
//
// In BigQuery, which charges for what is read and not for what is calculated, they would
// not pay.
func (d dialect) fingerprints() bool { return d != bigquery }

// engine is the version of what makes fingerprints.
func (d dialect) engine() string {
	if !d.fingerprints() {
		return d.nothing()
	}
	return "version()"
}

// fingerprint is one of some expressions.
func (d dialect) fingerprint(of []string) string {
	if !d.fingerprints() {
		return "CAST(NULL AS " + warehouse.Int64.In(string(d)) + ")"
	}
	return "CAST(hash(" + strings.Join(of, ", ") + ") >> 1 AS BIGINT)"
}

// plain is what a fingerprint is made of for a value of a type, or "" where that is the
// text that encode makes of it, since values that are equal may have different ones.
func (d dialect) plain(expr string, kind warehouse.Type) string {
	switch {
	case !d.fingerprints():
		return ""
	case kind == "FLOAT64":
		return expr + ", signbit(" + expr + ")" // 0 equals -0
	case kind == warehouse.String || kind == warehouse.Int64 || kind == warehouse.Bool || kind == warehouse.Timestamp || kind == "DATE":
		return expr
	}
	return ""
}

// ofChange is what plan_changes has of the id of a change that was not sent before:
// half of a digest of what it does.
func (d dialect) ofChange(planID, op, hash, key string) string {
	return "SUBSTR(" + d.md5("CONCAT("+literal(planID+"|")+", "+op+", '|', "+hash+", '|', "+key+")") + ", 1, " + strconv.Itoa(halfID) + ")"
}

const halfID = 16

// changeID is the id of a change in a row of plan_changes: as it was sent before, or, in
// hexadecimal digits, when the plan was made, the sequence number, and what the row has of
// it. So ids are in the order in which they are sent, and a destination that remembers
// them finds each next to the last.
func (d dialect) changeID(planID, row string) string {
	seq := "printf('%08x', " + row + ".seq)"
	if d == bigquery {
		seq = "FORMAT('%08x', " + row + ".seq)"
	}
	id, made := row+".change_id", fmt.Sprintf("%08x", uint32(madeAt(planID).Unix()))
	return "CASE WHEN LENGTH(" + id + ") = " + strconv.Itoa(halfID) + " THEN CONCAT(" + literal(made) + ", " + seq + ", " + id + ") ELSE " + id + " END"
}

// nothing is a NULL that is a text; in BigQuery a bare one is a number.
func (d dialect) nothing() string { return "CAST(NULL AS " + warehouse.String.In(string(d)) + ")" }

// encode writes a column as text from which decode restores the value, and
// which is the same text for as long as the value is.
func (d dialect) encode(expr string, kind warehouse.Type) string {
	name := string(kind)
	switch {
	case kind == warehouse.String:
		return d.text(expr)
	case kind == warehouse.Timestamp && d == bigquery:
		return d.text("UNIX_MICROS(" + expr + ")")
	case kind == warehouse.Timestamp:
		return d.text("epoch_us(" + expr + ")")
	case kind == warehouse.Bytes && d == bigquery:
		return "TO_HEX(" + expr + ")"
	case kind == warehouse.Bytes:
		return "lower(hex(" + expr + "))"
	case kind == warehouse.JSON || strings.HasPrefix(name, "ARRAY<") || strings.HasPrefix(name, "STRUCT<"):
		if d == bigquery {
			// Its answer to NULL is a text, null.
			return "IF(" + expr + " IS NULL, NULL, TO_JSON_STRING(" + expr + "))"
		}
		return d.text("to_json(" + expr + ")")
	default:
		return d.text(expr)
	}
}

// entry writes the parts of an encoded column's entry in a payload; see split.
func (d dialect) entry(name string, kind warehouse.Type) string {
	if _, ok := counterparts[kind]; ok { // its text has no ';' in it
		return "'=', COALESCE(" + name + ", ''), ';'"
	}
	return "COALESCE(" + d.byteLength(name) + ", '-'), ':', COALESCE(" + name + ", '')"
}

// literal writes a string that is known to hold neither control characters nor
// backslashes: a name that Load checked, or one of our own digests.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func literals(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = literal(s)
	}
	return strings.Join(quoted, ", ")
}
