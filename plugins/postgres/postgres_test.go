package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/postgres/postgrestest"
)

// server is nil if PostgreSQL is not installed.
var server *postgrestest.Server

func TestMain(m *testing.M) {
	var err error
	server, err = postgrestest.Start(context.Background())
	if err != nil && !errors.Is(err, postgrestest.ErrNotInstalled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if server != nil {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// database is a schema of its own in the server, with a table.
type database struct {
	t      *testing.T
	conn   *pgx.Conn
	schema string
}

var schemas atomic.Int64

func newDatabase(t *testing.T, columns string) *database {
	t.Helper()
	if server == nil {
		t.Skip(postgrestest.ErrNotInstalled)
	}
	conn, err := pgx.Connect(t.Context(), server.SocketURL())
	if err != nil {
		t.Fatal(err)
	}
	d := &database{t: t, conn: conn, schema: fmt.Sprintf("test%d", schemas.Add(1))}
	t.Cleanup(func() { conn.Close(context.Background()) })
	d.exec("CREATE SCHEMA " + d.schema)
	if columns != "" {
		d.exec("CREATE TABLE " + d.schema + ".people (" + columns + ")")
	}
	return d
}

func (d *database) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.conn.Exec(context.Background(), sql, args...); err != nil {
		d.t.Fatal(err)
	}
}

// rows is the table as text, by key.
func (d *database) rows(columns string) []string {
	d.t.Helper()
	rows, err := d.conn.Query(context.Background(), "SELECT concat_ws('|', "+columns+") FROM "+d.schema+".people ORDER BY 1")
	if err != nil {
		d.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

func (d *database) expect(columns string, want ...string) {
	d.t.Helper()
	if diff := cmp.Diff(want, d.rows(columns)); diff != "" {
		d.t.Errorf("the table (-want +got):\n%s", diff)
	}
}

func (d *database) config(more ...string) map[string]string {
	c := map[string]string{"url": server.SocketURL(), "table": d.schema + ".people", "key": "key"}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

func (d *database) open(more ...string) destination.Destination {
	d.t.Helper()
	return d.opened(false, more...)
}

// openToUpdate opens the destination as a sync with the mode update does.
func (d *database) openToUpdate(more ...string) destination.Destination {
	d.t.Helper()
	return d.opened(true, more...)
}

func (d *database) opened(updateOnly bool, more ...string) destination.Destination {
	d.t.Helper()
	dest := New()
	if err := destination.Open(d.t.Context(), dest, d.config(more...), updateOnly); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := dest.Close(context.Background()); err != nil {
			d.t.Error(err)
		}
	})
	return dest
}

var batches atomic.Int64

// batchOf makes a batch of text columns; an op of "-" removes, and a value of
// "NULL" is none.
func batchOf(columns string, rows ...string) destination.Batch {
	n := batches.Add(1)
	b := destination.Batch{ID: fmt.Sprintf("batch-%d", n), Sync: "s", Run: "r"}
	for name := range strings.FieldsSeq(columns) {
		b.Columns = append(b.Columns, destination.Column{Name: name, Type: destination.String})
	}
	for i, row := range rows {
		parts := strings.Split(row, "|")
		c := destination.Change{ID: fmt.Sprintf("change-%d-%d", n, i), Key: parts[0], Op: destination.Upsert, Values: make([]any, len(b.Columns))}
		if key, ok := strings.CutPrefix(parts[0], "-"); ok {
			c.Key, c.Op = key, destination.Remove
		}
		for j, part := range parts[1:] {
			if part != "NULL" {
				c.Values[j] = part
			}
		}
		b.Changes = append(b.Changes, c)
	}
	return b
}

// outcomes writes results in short: "delivered delivered rejected:unique_violation".
func outcomes(results []destination.Result) string {
	words := make([]string, len(results))
	for i, r := range results {
		words[i] = r.Outcome.String()
		if r.Code != "" {
			words[i] += ":" + r.Code
		}
	}
	return strings.Join(words, " ")
}

func write(t *testing.T, d destination.Destination, b destination.Batch, want string) {
	t.Helper()
	results, err := d.Write(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CheckResults(results); err != nil {
		t.Error(err)
	}
	if got := outcomes(results); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

const conformance = "key text PRIMARY KEY, text text, count bigint, score double precision, member boolean, seen_at timestamptz"

// withoutNUL is the suite's batch without the one character that PostgreSQL's
// text cannot hold; TestRefusedRows has it.
func withoutNUL(id string, op destination.Op) destination.Batch {
	b := destinationtest.Batch(id, op)
	for _, c := range b.Changes {
		if s, ok := c.Values[0].(string); ok {
			c.Values[0] = strings.ReplaceAll(s, "\x00", "")
		}
	}
	return b
}

func TestConformance(t *testing.T) {
	destinationtest.RunWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
		return New(), newDatabase(t, conformance).config()
	}, withoutNUL)
}

// PostgreSQL quotes values in its errors, and a trigger says what it likes.
func TestConformanceWithEcho(t *testing.T) {
	for name, trigger := range map[string]string{
		"value":     "RAISE EXCEPTION 'no %', NEW.text",
		"condition": "RAISE EXCEPTION USING MESSAGE = NEW.text, DETAIL = NEW.text, ERRCODE = '22P02', COLUMN = 'text'",
		"broken":    "EXECUTE NEW.text",
	} {
		t.Run(name, func(t *testing.T) {
			destinationtest.RunCanaryWith(t, func(t *testing.T) (destination.Destination, map[string]string) {
				d := newDatabase(t, conformance)
				d.exec("CREATE FUNCTION " + d.schema + ".refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN " +
					strings.ReplaceAll(trigger, "'", "''") + "; RETURN NEW; END'")
				d.exec("CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON " + d.schema + ".people FOR EACH ROW EXECUTE FUNCTION " + d.schema + ".refuse()")
				return New(), d.config()
			}, withoutNUL)
		})
	}
}

// What is written is what is read, to the bit.
func TestValues(t *testing.T) {
	d := newDatabase(t, conformance)
	b := withoutNUL("b", destination.Upsert)
	b.Changes[0].Values[2], b.Changes[1].Values[2] = math.NaN(), math.Inf(-1)
	if _, err := d.open().Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for _, c := range b.Changes {
		got := make([]any, 5)
		var text *string
		var count *int64
		var score *float64
		var member *bool
		var seen *time.Time
		err := d.conn.QueryRow(t.Context(), "SELECT text, count, score, member, seen_at FROM "+d.schema+".people WHERE key = $1", c.Key).
			Scan(&text, &count, &score, &member, &seen)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range []any{text, count, score, member, seen} {
			switch v := v.(type) {
			case *string:
				if v != nil {
					got[i] = *v
				}
			case *int64:
				if v != nil {
					got[i] = *v
				}
			case *float64:
				if v != nil {
					got[i] = *v
				}
			case *bool:
				if v != nil {
					got[i] = *v
				}
			case *time.Time:
				if v != nil {
					got[i] = v.UTC()
				}
			}
		}
		same := cmp.Comparer(func(a, b float64) bool {
			return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
		})
		if diff := cmp.Diff(c.Values, got, same); diff != "" {
			t.Errorf("%s: %s", c.Key, diff)
		}
	}
}

func TestUpsertAndRemove(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text, visits int, note text DEFAULT 'theirs'")
	p := d.open()
	write(t, p, batchOf("name visits", "a|Ann|1", "b|Bob|NULL"), "delivered delivered")
	d.exec("UPDATE " + d.schema + ".people SET note = 'ours' WHERE key = 'a'")
	write(t, p, batchOf("name visits", "a|Anna|2", "c|Cy|3"), "delivered delivered")
	d.expect("key, name, visits, note", "a|Anna|2|ours", "b|Bob|theirs", "c|Cy|3|theirs")
	write(t, p, batchOf("name visits", "-a", "-nobody"), "delivered delivered")
	d.expect("key, name", "b|Bob", "c|Cy")
}

// Changes of one key in a batch happen one after the other.
func TestOrder(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text")
	p := d.open()
	write(t, p, batchOf("name", "a|1", "a|2", "b|1", "-b", "c|1", "-c", "c|2"), strings.TrimSpace(strings.Repeat("delivered ", 7)))
	d.expect("key, name", "a|2", "c|2")
}

func TestUpdateOnly(t *testing.T) {
	d := newDatabase(t, "key bigint, name text, score numeric(5, 2), other text")
	d.exec("INSERT INTO " + d.schema + ".people VALUES (1, 'old', 1, 'x'), (2, 'old', 2, 'x')")
	p := d.openToUpdate()
	b := batchOf("name score", "1|new|10.5", "3|new|1", "2|old|2")
	write(t, p, b, "delivered skipped:absent delivered")
	write(t, p, b, "delivered skipped:absent delivered") // as the ledger remembers
	d.expect("key, name, score, other", "1|new|10.50|x", "2|old|2.00|x")
	// What it did not make it does not delete.
	write(t, p, batchOf("name score", "-1", "-7"), "delivered delivered")
	d.expect("key, name, other", "1|x", "2|old|x")
}

func TestRemovesAreWhatTheConfigurationSays(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text, other text")
	d.exec("INSERT INTO " + d.schema + ".people VALUES ('a', 'A', 'x'), ('b', 'B', 'x')")
	write(t, d.open("removes", "clear"), batchOf("name", "-a"), "delivered")
	write(t, d.openToUpdate("removes", "delete"), batchOf("name", "-b"), "delivered")
	d.expect("key, name, other", "a|x")
}

// A column that cannot be emptied keeps people out whom emptying it would remove.
func TestWhoCannotBeRemovedIsNotSent(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text NOT NULL DEFAULT ''")
	_, err := d.open("removes", "clear").Write(t.Context(), batchOf("name", "a|A"))
	if err == nil || !strings.Contains(err.Error(), "the column name is NOT NULL") {
		t.Errorf("Write: %v", err)
	}
	if rows := d.rows("key"); len(rows) > 0 {
		t.Errorf("somebody was sent all the same: %v", rows)
	}
	write(t, d.open(), batchOf("name", "a|A"), "delivered")
	write(t, d.open(), batchOf("name", "-a"), "delivered")
	if rows := d.rows("key"); len(rows) > 0 {
		t.Errorf("after the removal there is %v", rows)
	}
}

// One row that PostgreSQL refuses does not stop the others, wherever it is.
// Rows of new keys are written by COPY where it writes what INSERT would, and what is
// there already is found.
func TestNewRowsAreCopied(t *testing.T) {
	many := make([]string, 3*sampleKeys)
	for i := range many {
		many[i] = fmt.Sprintf("k%03d|a", i)
	}
	type batch struct {
		rows []string
		how  string // by which statements rows got in since the beginning, and how many
	}
	tests := map[string]struct {
		change  string // of the table
		batches []batch
	}{
		"new, then changed, then more": {batches: []batch{
			{[]string{"k1|a", "k2|a"}, "copy 2"},
			{[]string{"k1|b", "k2|a"}, "copy 1, insert 1"},
			{[]string{"k3|a", "k4|a"}, "copy 3, insert 1"},
			{[]string{"k3|b", "k5|a"}, "copy 2, insert 3"},
		}},
		"one that a sample misses": {batches: []batch{
			{[]string{"k001|old"}, "copy 1"},
			{many, "insert 300"},
			{[]string{"n1|a", "n2|a"}, "copy 2, insert 300"},
		}},
		"one is refused": {change: "ADD CHECK (name <> 'bad')", batches: []batch{
			{[]string{"k1|a", "k2|bad!", "k3|a"}, "copy 3"},
			{[]string{"k4|a", "k5|bad", "k6|a"}, "copy 3, insert 2"},
			{[]string{"k7|a"}, "copy 4, insert 2"},
		}},
		"one is of another's unique name": {change: "ADD UNIQUE (name)", batches: []batch{
			{[]string{"k1|a"}, "copy 1"},
			{[]string{"k2|a", "k3|b"}, "copy 1, insert 1"},
			{[]string{"k4|c"}, "copy 2, insert 1"},
		}},
		"values are cast": {change: "ALTER name TYPE varchar(3)", batches: []batch{
			{[]string{"k1|abc"}, "insert 1"},
		}},
		"keys are cast": {change: "ALTER key TYPE varchar(9)", batches: []batch{
			{[]string{"k1|abc"}, "insert 1"},
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t, "key text PRIMARY KEY, name text, how text")
			if test.change != "" {
				d.exec("ALTER TABLE " + d.schema + ".people " + test.change)
			}
			d.exec(`CREATE FUNCTION ` + d.schema + `.how() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN NEW.how := lower(split_part(current_query(), ' ', 1)); RETURN NEW; END $$`)
			d.exec("CREATE TRIGGER how BEFORE INSERT OR UPDATE ON " + d.schema + ".people FOR EACH ROW EXECUTE FUNCTION " + d.schema + ".how()")
			dest := d.open()
			want := map[string]string{}
			for n, batch := range test.batches {
				b := batchOf("name", batch.rows...)
				results, err := dest.Write(t.Context(), b)
				if err != nil {
					t.Fatal(err)
				}
				for i, r := range results {
					if r.Outcome == destination.Delivered {
						want[b.Changes[i].Key] = fmt.Sprint(b.Changes[i].Values[0])
					}
				}
				var how string
				if err := d.conn.QueryRow(t.Context(), "SELECT string_agg(how || ' ' || n, ', ' ORDER BY how) FROM (SELECT how, count(*) AS n FROM "+d.schema+".people GROUP BY how) AS h").Scan(&how); err != nil || how != batch.how {
					t.Errorf("batch %d: rows are there by %s, want %s; %v", n+1, how, batch.how, err)
				}
				var rows []string
				for key, value := range want {
					rows = append(rows, key+"|"+value)
				}
				slices.Sort(rows)
				d.expect("key, name", rows...)
			}
		})
	}
}

// COPY refuses a table with row-level security, which INSERT takes.
func TestRowLevelSecurity(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text")
	for _, statement := range []string{
		"ALTER TABLE %[1]s.people ENABLE ROW LEVEL SECURITY", "CREATE POLICY all_of_it ON %[1]s.people USING (true)",
		"CREATE ROLE %[1]s_user LOGIN", "GRANT ALL ON SCHEMA %[1]s TO %[1]s_user", "GRANT ALL ON %[1]s.people TO %[1]s_user",
	} {
		d.exec(fmt.Sprintf(statement, d.schema))
	}
	dest := d.open("url", strings.Replace(server.SocketURL(), postgrestest.User+"@", d.schema+"_user@", 1))
	write(t, dest, batchOf("name", "k1|a", "k2|a"), "delivered delivered")
	write(t, dest, batchOf("name", "k2|b", "k3|a"), "delivered delivered")
	d.expect("key, name", "k1|a", "k2|b", "k3|a")
}

func TestRefusedRows(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name varchar(5) NOT NULL, age int CHECK (age > 0), born date, doc json, code text UNIQUE")
	p := d.open()
	columns := "name age born doc code"
	const good = "Good|1|2000-01-01|{}|NULL"
	want := map[string]string{
		"a|TooLong|1|NULL|NULL|NULL":        "rejected:string_data_right_truncation",
		"b|NULL|1|NULL|NULL|NULL":           "rejected:not_null_violation",
		"c|Ok|-1|NULL|NULL|NULL":            "rejected:check_violation",
		"d|Ok|many|NULL|NULL|NULL":          "rejected:invalid_text_representation",
		"e|Ok|99999999999|NULL|NULL|NULL":   "rejected:numeric_value_out_of_range",
		"f|Ok|1|2000-02-31|NULL|NULL":       "rejected:datetime_field_overflow",
		"g|Ok|1|NULL|{|NULL":                "rejected:invalid_text_representation",
		"h|Nu\x00l|1|NULL|NULL|NULL":        "rejected:character_not_in_repertoire",
		"i|Twice|1|NULL|NULL|taken-already": "rejected:unique_violation",
		"j|\xff\xfe|1|NULL|NULL|NULL":       "rejected:character_not_in_repertoire",
	}
	write(t, p, batchOf(columns, "first|First|1|NULL|NULL|taken-already"), "delivered")
	for bad, outcome := range want {
		for at := range 5 {
			rows := []string{"r0|" + good, "r1|" + good, "r2|" + good, "r3|" + good, "r4|" + good}
			rows[at] = bad
			wants := strings.Fields(strings.Repeat("delivered ", 5))
			wants[at] = outcome
			b := batchOf(columns, rows...)
			results, err := p.Write(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if got := outcomes(results); got != strings.Join(wants, " ") {
				t.Errorf("%q at %d: %s", bad, at, got)
			}
			for _, value := range b.Changes[at].Values {
				if s, ok := value.(string); ok && len(s) > 2 && strings.Contains(results[at].Message, s) {
					t.Errorf("a value in %q", results[at].Message)
				}
			}
			if n := len(d.rows("key")); n != 1+len(rows)-1 {
				t.Errorf("%q at %d: %d rows", bad, at, n)
			}
			d.exec("DELETE FROM " + d.schema + ".people WHERE key <> 'first'")
		}
	}
}

// A batch that comes again does nothing, even when others came in between; a
// rejected change may succeed when it comes again.
func TestSentAgain(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text, age int CHECK (age > 0)")
	p := d.open()
	first, second := batchOf("name age", "a|1|1", "b|1|0", "-c"), batchOf("name age", "a|2|1", "c|2|1")
	write(t, p, first, "delivered rejected:check_violation delivered")
	write(t, p, second, "delivered delivered")
	d.exec("ALTER TABLE " + d.schema + ".people DROP CONSTRAINT people_age_check")
	write(t, d.open(), first, "delivered delivered delivered") // another process
	d.expect("key, name", "a|2", "b|1", "c|2")
	// A change that is twice in a batch is done once.
	twice := batchOf("name age", "d|1|1", "d|2|1", "d|1|1")
	twice.Changes[2].ID = twice.Changes[0].ID
	write(t, p, twice, "delivered delivered delivered")
	d.expect("key, name", "a|2", "b|1", "c|2", "d|2")
}

// proxy carries connections to the server, and cuts one off right after the
// server has answered a commit, or before it hears of it.
type proxy struct {
	url         string
	cut, before atomic.Bool
}

func newProxy(t *testing.T) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{url: strings.Replace(server.URL(), fmt.Sprintf(":%d/", server.Port), fmt.Sprintf(":%d/", l.Addr().(*net.TCPAddr).Port), 1)}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(client)
		}
	}()
	return p
}

func (p *proxy) carry(client net.Conn) {
	defer client.Close()
	upstream, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", server.Port))
	if err != nil {
		return
	}
	defer upstream.Close()
	var committing atomic.Bool
	go func() { // from client to server
		defer upstream.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			if p.cut.Load() && bytes.Contains(buffer[:n], []byte("commit\x00")) {
				if p.before.Load() {
					return
				}
				committing.Store(true)
			}
			if _, err := upstream.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := upstream.Read(buffer)
		if err != nil || committing.Load() {
			return // the answer is lost
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// The connection breaks while a batch commits: nobody knows what became of it.
// Sent again, it is done exactly once.
func TestConnectionLostAtCommit(t *testing.T) {
	for name, before := range map[string]bool{"before the server heard": true, "after the server answered": false} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t, "key text PRIMARY KEY, n int")
			// Each writing of a row counts.
			d.exec("CREATE FUNCTION " + d.schema + ".tally() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := coalesce(OLD.n, 0) + 1; RETURN NEW; END'")
			d.exec("CREATE TRIGGER tally BEFORE UPDATE ON " + d.schema + ".people FOR EACH ROW EXECUTE FUNCTION " + d.schema + ".tally()")
			d.exec("INSERT INTO " + d.schema + ".people VALUES ('a', 0)")
			proxy := newProxy(t)
			p := d.open("url", proxy.url, "password", postgrestest.Password, "tls", "off")
			b := batchOf("n", "a|77")
			proxy.before.Store(before)
			proxy.cut.Store(true)
			if _, err := p.Write(t.Context(), b); err == nil {
				t.Error("no error, though the answer was lost")
			}
			proxy.cut.Store(false)
			write(t, p, b, "delivered")
			write(t, p, b, "delivered")
			d.expect("key, n", "a|1")
		})
	}
}

// Batches, lost answers, repetitions out of order: the table is what a model in
// Go says.
func TestRandomHistories(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text")
	proxy := newProxy(t)
	p := d.open("url", proxy.url, "password", postgrestest.Password, "tls", "off")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	model := map[string]string{}
	var sent []destination.Batch
	for step := range 150 {
		if len(sent) > 0 && random.IntN(3) == 0 { // an old one, once more
			if _, err := p.Write(t.Context(), sent[random.IntN(len(sent))]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var rows []string
		for range random.IntN(6) + 1 {
			key, value := fmt.Sprint("k", random.IntN(5)), fmt.Sprint("v", step, random.IntN(100))
			if random.IntN(3) == 0 {
				rows = append(rows, "-"+key)
				delete(model, key)
			} else {
				rows = append(rows, key+"|"+value)
				model[key] = value
			}
		}
		b := batchOf("name", rows...)
		proxy.before.Store(random.IntN(2) == 0)
		proxy.cut.Store(random.IntN(4) == 0)
		_, err := p.Write(t.Context(), b)
		if err != nil != proxy.cut.Load() {
			t.Fatalf("cut %v, err %v", proxy.cut.Load(), err)
		}
		if proxy.cut.Swap(false) {
			write(t, p, b, strings.TrimSpace(strings.Repeat("delivered ", len(rows))))
		}
		sent = append(sent, b)
	}
	var want []string
	for key, value := range model {
		want = append(want, key+"|"+value)
	}
	sortStrings := cmp.Transformer("sort", func(in []string) map[string]bool {
		set := map[string]bool{}
		for _, s := range in {
			set[s] = true
		}
		return set
	})
	if diff := cmp.Diff(want, d.rows("key, name"), sortStrings); diff != "" {
		t.Error(diff)
	}
}

// A deadlock with somebody else rolls the batch back, and it may come again.
func TestTransient(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text")
	d.exec("CREATE FUNCTION " + d.schema + ".busy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''40P01''; END'")
	d.exec("CREATE TRIGGER busy BEFORE INSERT ON " + d.schema + ".people FOR EACH ROW EXECUTE FUNCTION " + d.schema + ".busy()")
	p := d.open()
	b := batchOf("name", "a|1", "b|1")
	write(t, p, b, "retry:deadlock_detected retry:deadlock_detected")
	d.exec("DROP TRIGGER busy ON " + d.schema + ".people")
	write(t, p, b, "delivered delivered")
}

// The server ends every connection: the next batch makes a new one.
func TestReconnects(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text")
	p := d.open()
	write(t, p, batchOf("name", "a|1"), "delivered")
	d.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluis'")
	b := batchOf("name", "a|2")
	results, err := p.Write(t.Context(), b)
	if err == nil && results[0].Outcome != destination.Retry {
		t.Errorf("%+v", results)
	}
	write(t, p, b, "delivered")
	d.expect("key, name", "a|2")
}

func TestTLS(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text")
	d.exec("CREATE VIEW " + d.schema + ".connections AS SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'sluis'")
	over := []string{"url", server.URL(), "password", postgrestest.Password}
	write(t, d.open(append(over, "tls_ca", server.CA)...), batchOf("name", "a|1"), "delivered")
	var encrypted bool
	if err := d.conn.QueryRow(t.Context(), "SELECT bool_and(ssl) FROM "+d.schema+".connections").Scan(&encrypted); err != nil || !encrypted {
		t.Errorf("encrypted %v, %v", encrypted, err)
	}
	for name, tt := range map[string]struct {
		more []string
		want string
	}{
		"unknown authority": {nil, "certificate is not trusted"},
		"wrong name":        {[]string{"tls_ca", server.CA, "url", strings.Replace(server.URL(), "127.0.0.1", "localhost", 1)}, "certificate is not trusted"},
		"wrong password":    {[]string{"tls_ca", server.CA, "password", "hunter2"}, "check user and password"},
		"nothing there":     {[]string{"tls_ca", server.CA, "url", "postgres://postgres@127.0.0.1:1/postgres"}, "nothing listens"},
		"no such database":  {[]string{"tls_ca", server.CA, "url", strings.TrimSuffix(server.URL(), "postgres") + "nothing"}, "check the database"},
	} {
		p := New()
		err := p.Open(t.Context(), d.config(append(over, tt.more...)...))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), postgrestest.Password) {
			t.Errorf("%s: err = %v, want one with %q", name, err, tt.want)
		}
	}
}

// A server without TLS is not sent anything, and not a password either.
func TestNoTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan []byte, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		request := make([]byte, 8)
		_, _ = io.ReadFull(conn, request)
		_, _ = conn.Write([]byte("N"))
		rest, _ := io.ReadAll(conn)
		heard <- rest
	}()
	config := map[string]string{"url": "postgres://u@" + l.Addr().String() + "/d", "password": "hunter2", "table": "t", "key": "k"}
	err = New().Open(t.Context(), config)
	if err == nil || !strings.Contains(err.Error(), "speaks no TLS") {
		t.Errorf("err = %v", err)
	}
	if rest := <-heard; len(rest) > 0 {
		t.Errorf("it was sent %d bytes", len(rest))
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, plain text, part text, made int GENERATED ALWAYS AS (1) STORED")
	d.exec("CREATE UNIQUE INDEX ON " + d.schema + ".people (part) WHERE part <> ''")
	d.exec("CREATE ROLE poor" + d.schema + " LOGIN")
	d.exec("GRANT USAGE ON SCHEMA " + d.schema + " TO poor" + d.schema)
	d.exec("GRANT SELECT ON " + d.schema + ".people TO poor" + d.schema)
	poor := strings.Replace(server.SocketURL(), "postgres@", "poor"+d.schema+"@", 1)
	for _, tt := range []struct{ field, value, inProblem string }{
		{"table", d.schema + ".nothing", "no such table"},
		{"key", "nothing", "no such column; it has key, plain, part, made"},
		{"key", "plain", "CREATE UNIQUE INDEX"},
		{"key", "part", "CREATE UNIQUE INDEX"},
		{"url", poor, "CREATE TABLE IF NOT EXISTS"},
	} {
		err := New().Open(t.Context(), d.config(tt.field, tt.value))
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if !ok || !strings.Contains(problem.Problem, tt.inProblem) {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
	p := d.open()
	for columns, want := range map[string]string{
		"nothing": "no column nothing", "key": "take it out of the mapping", "made": "generated by PostgreSQL",
	} {
		if _, err := p.Write(t.Context(), batchOf(columns, "a|1")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", columns, err)
		}
	}
	// With a ledger made for him, he lacks the right to write.
	d.exec("GRANT SELECT, INSERT, UPDATE, DELETE ON " + d.schema + ".sluis_ledger TO poor" + d.schema)
	checker := d.open("url", poor).(destination.Checker)
	if err := checker.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "GRANT INSERT ON") {
		t.Errorf("check: %v", err)
	}
}

// A ledger of before is brought into today's form, and still knows what it knew.
func TestFormerLedger(t *testing.T) {
	d := newDatabase(t, "key text PRIMARY KEY, name text")
	ledger := d.schema + ".sluis_ledger"
	d.exec("CREATE TABLE " + ledger + ` (target text COLLATE "C", id text COLLATE "C", outcome smallint NOT NULL, code text NOT NULL,
		batch text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (target, id))`)
	b := batchOf("name", "a|1", "b|2", "c|3")
	b.Changes[0].ID = strings.Repeat("0123456789abcdef", 2) // as the host makes them; the others are of a test alone
	target := pgx.Identifier{d.schema, "people"}.Sanitize()
	d.exec(fmt.Sprintf(`INSERT INTO %s VALUES ('%s', '%s', %d, '', 'b', '2001-02-03'), ('%[2]s', '%[5]s', %[6]d, 'absent', 'b', now()), ('"another"', '%[7]s', %[4]d, '', 'b', now())`,
		ledger, target, b.Changes[0].ID, destination.Delivered, b.Changes[1].ID, destination.Skipped, b.Changes[2].ID))
	d.exec("CREATE ROLE poor" + d.schema + " LOGIN; GRANT USAGE ON SCHEMA " + d.schema + " TO poor" + d.schema + "; GRANT SELECT ON ALL TABLES IN SCHEMA " + d.schema + " TO poor" + d.schema)
	poor := strings.Replace(server.SocketURL(), "postgres@", "poor"+d.schema+"@", 1)
	problem, ok := errors.AsType[*destination.ConfigError](New().Open(t.Context(), d.config("url", poor)))
	if !ok || problem.Field != "ledger" || !strings.Contains(problem.Problem, "ALTER TABLE") {
		t.Errorf("who may not change it: %v", problem)
	}
	p := d.open()
	write(t, p, b, "delivered skipped:absent delivered")
	d.expect("key, name", "c|3")
	if err := p.Close(t.Context()); err != nil { // forgets what is old
		t.Error(err)
	}
	write(t, d.open(), b, "delivered skipped:absent delivered")
	d.expect("key, name", "a|1", "c|3")
}

func TestDescribeTarget(t *testing.T) {
	d := newDatabase(t, "key uuid PRIMARY KEY, name varchar(5), visits int NOT NULL, at timestamptz NOT NULL DEFAULT now(), made int GENERATED ALWAYS AS (1) STORED")
	target, err := d.open().(destination.TargetDescriber).DescribeTarget(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := destination.Target{Closed: true, Fields: []destination.TargetField{
		{Name: "name", Help: "of the type character varying"},
		{Name: "visits", Required: true, Types: []destination.Type{destination.Int64, destination.String}, Help: "of the type integer"},
		{Name: "at", Types: []destination.Type{destination.Time, destination.String}, Help: "of the type timestamp with time zone"},
	}}
	if diff := cmp.Diff(want, target); diff != "" {
		t.Error(diff)
	}
}

func TestConfig(t *testing.T) {
	good := map[string]string{"url": "postgres://u@db.example.org/d", "password": "hunter2", "table": "s.t", "key": "k"}
	if _, err := parseConfig(good, false); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ field, value string }{
		{"url", ""},
		{"url", "mysql://u@h/d"},
		{"url", "postgres://u:hunter2@h/d"},
		{"url", "postgres://u@h/d?sslmode=disable"},
		{"url", "postgres://u@h/"},
		{"url", "postgres://h/d"},
		{"url", "postgres://u@/d"},
		{"url", "postgres://u@h:0/d"},
		{"url", "postgres://u@h/d?host=/run"},
		{"url", "postgres:///d?host=run"},
		{"url", "postgres://hunter2\x7f"},
		{"password", "hunter2\x00"},
		{"table", "a.b.c"},
		{"table", "a."},
		{"table", strings.Repeat("x", 64)},
		{"key", ""},
		{"ledger", "."},
		{"writes", "update"},
		{"writes", "upsert"},
		{"removes", "maybe"},
		{"tls", "prefer"},
		{"tls_ca", "hunter2"},
		{"timeout", "1h"},
		{"timeout", "soon"},
	} {
		config := maps.Clone(good)
		config[tt.field] = tt.value
		_, err := parseConfig(config, false)
		problem, ok := errors.AsType[*destination.ConfigError](err)
		if !ok || problem.Field != tt.field || strings.Contains(problem.Problem, "hunter2") {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
	config := map[string]string{"url": "postgres://u@8.8.8.8/d", "table": "t", "key": "k", "tls": "off"}
	if _, err := parseConfig(config, false); err == nil {
		t.Error("in clear to a public address, and no error")
	}
}

// Names are quoted wherever they stand.
func TestNames(t *testing.T) {
	d := newDatabase(t, "")
	d.exec(`CREATE TABLE ` + d.schema + `."select ""; x" ("the key" text PRIMARY KEY, "group" text)`)
	p := New()
	if err := p.Open(t.Context(), d.config("table", d.schema+`.select "; x`, "key", "the key")); err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	write(t, p, batchOf("group", "a|1", "b|1", "-b"), "delivered delivered delivered")
	var n int
	if err := d.conn.QueryRow(t.Context(), `SELECT count(*) FROM `+d.schema+`."select ""; x" WHERE "group" = '1'`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}

func BenchmarkUpsert(b *testing.B) {
	if server == nil {
		b.Skip(postgrestest.ErrNotInstalled)
	}
	conn, err := pgx.Connect(b.Context(), server.SocketURL())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	schema := fmt.Sprintf("bench%d", schemas.Add(1))
	for _, sql := range []string{"CREATE SCHEMA " + schema, "CREATE TABLE " + schema + ".people (key text PRIMARY KEY, email text, visits bigint, score double precision, seen_at timestamptz)"} {
		if _, err := conn.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	p := New()
	if err := p.Open(b.Context(), map[string]string{"url": server.SocketURL(), "table": schema + ".people", "key": "key"}); err != nil {
		b.Fatal(err)
	}
	defer p.Close(context.Background())
	const rows = 5000
	batch := destination.Batch{Sync: "s", Run: "r", Columns: []destination.Column{
		{Name: "email", Type: destination.String},
		{Name: "visits", Type: destination.Int64},
		{Name: "score", Type: destination.Float64},
		{Name: "seen_at", Type: destination.Time},
	}, Changes: make([]destination.Change, rows)}
	n := 0
	for b.Loop() {
		batch.ID = fmt.Sprintf("bench-%d", batches.Add(1))
		for i := range batch.Changes {
			batch.Changes[i] = destination.Change{
				ID: fmt.Sprint(batch.ID, i), Key: fmt.Sprint("key", n), Op: destination.Upsert,
				Values: []any{"somebody@example.org", int64(i), float64(i) / 3, time.Unix(int64(n), 0).UTC()},
			}
			n++
		}
		if _, err := p.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}
