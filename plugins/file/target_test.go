package file

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/duckdb/duckdb-go/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/sluis-cdp/sluis/plugins/destination"
	"github.com/sluis-cdp/sluis/plugins/destination/destinationtest"
	"github.com/sluis-cdp/sluis/plugins/file/sftptest"
)

// formats are all of them.
var formats = []string{"csv", "jsonl", "parquet"}

// target is a kind of place to write to.
type target struct {
	name string
	// place makes a new place: how to write there, and the directory of this machine
	// where the files then are.
	place func(t *testing.T) (config map[string]string, dir string)
}

var targets = []target{
	{"local", func(t *testing.T) (map[string]string, string) {
		dir := t.TempDir()
		return map[string]string{"directory": dir}, dir
	}},
	{"sftp", func(t *testing.T) (map[string]string, string) {
		server, dir := sftpServer(t), t.TempDir()
		return map[string]string{
			"url":         "sftp://" + server.User + "@" + server.Address + dir,
			"private_key": server.PrivateKey, "host_key": server.KnownHosts,
		}, dir
	}},
}

// eachTarget runs a test for all targets and formats.
func eachTarget(t *testing.T, do func(t *testing.T, config map[string]string, dir string)) {
	for _, target := range targets {
		for _, format := range formats {
			t.Run(target.name+" "+format, func(t *testing.T) {
				config, dir := target.place(t)
				config["format"] = format
				do(t, config, dir)
			})
		}
	}
}

var sftpOnce = sync.OnceValues(func() (*sftptest.Server, error) { return sftptest.Start(context.Background()) })

func sftpServer(t *testing.T) *sftptest.Server {
	t.Helper()
	server, err := sftpOnce()
	if errors.Is(err, sftptest.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// stops end the servers that tests have started.
var stops = []func() error{func() error {
	server, err := sftpOnce()
	if err != nil {
		return nil // it never ran
	}
	return server.Stop()
}}

func TestMain(m *testing.M) {
	if text := os.Getenv("SLUIS_FILE_RUN"); text != "" {
		if err := killed(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	for _, stop := range stops {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func TestConformance(t *testing.T) {
	for _, target := range targets {
		for _, format := range formats {
			t.Run(target.name+" "+format, func(t *testing.T) {
				destinationtest.Run(t, func(t *testing.T) (destination.Destination, map[string]string) {
					config, _ := target.place(t)
					config["format"] = format
					return New(), config
				})
			})
		}
	}
}

// legible is a tree with its Parquet files as DuckDB reads them.
func legible(t *testing.T, files map[string]string) map[string]string {
	t.Helper()
	for name, content := range files {
		if filepath.Ext(name) == ".parquet" {
			files[name] = strings.Join(parquetRows(t, content), "\n")
		}
	}
	return files
}

// parquetRows are the rows of a file, each as JSON.
func parquetRows(t *testing.T, content string) (rows []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := duck(t).Query("SELECT CAST(to_json(t) AS VARCHAR) FROM read_parquet(?, hive_partitioning = false) t", path)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var row string
		if err := found.Scan(&row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

var duckOnce = sync.OnceValues(func() (*sql.DB, error) { return sql.Open("duckdb", "") })

func duck(t *testing.T) *sql.DB {
	t.Helper()
	db, err := duckOnce()
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// history is what the process writes that is killed, and then its successor: a run with
// five batches, another in which somebody of the first is erased, and their ends.
var history = []func(d destination.Destination, config map[string]string) (destination.Destination, error){
	writes("r1", "b1"), writes("r1", "b2"), writes("r1", "b3"), reopens, writes("r2", "b4"), erases("r2", "b5"), writes("r2", "b6"), reopens,
}

func historyBatch(run, id string) destination.Batch {
	b := destination.Batch{ID: id, Run: run, Sync: "s", Columns: []destination.Column{{Name: "email", Type: destination.String}}}
	for i := range 2000 {
		key := fmt.Sprintf("key-%d", i)
		b.Changes = append(b.Changes, destination.Change{ID: id + key, Key: key, Op: destination.Upsert, Values: []any{fmt.Sprintf("%s.%d@example.test", id, i)}})
	}
	return b
}

type step = func(d destination.Destination, config map[string]string) (destination.Destination, error)

func writes(run, id string) step {
	return func(d destination.Destination, _ map[string]string) (destination.Destination, error) {
		_, err := d.Write(context.Background(), historyBatch(run, id))
		return d, err
	}
}

func erases(run, id string) step {
	return func(d destination.Destination, _ map[string]string) (destination.Destination, error) {
		b := historyBatch(run, id)
		b.Changes = []destination.Change{{ID: id, Key: "key-7", Op: destination.Remove, PriorityReason: erased, Values: []any{nil}}}
		_, err := d.Write(context.Background(), b)
		return d, err
	}
}

// reopens closes a run, as a new process begins the next.
func reopens(d destination.Destination, config map[string]string) (destination.Destination, error) {
	if err := d.Close(context.Background()); err != nil {
		return nil, err
	}
	d = New()
	return d, d.Open(context.Background(), config)
}

// killed is the process that is killed: it goes through the history and says
// when each step is done.
func killed(text string) error {
	var config map[string]string
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	d := New()
	if err := d.Open(context.Background(), config); err != nil {
		return err
	}
	for i, do := range history {
		var err error
		if d, err = do(d, config); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		fmt.Println(i)
	}
	return nil
}

// A process that is killed at any step leaves whole parts and true manifests or
// none, and its successor what an undisturbed one would have left.
func TestKilledAtEachStep(t *testing.T) {
	for _, target := range targets {
		for after := range len(history) - 1 {
			format := formats[after%len(formats)]
			t.Run(fmt.Sprintf("%s %s %d", target.name, format, after), func(t *testing.T) {
				config, dir := target.place(t)
				config["format"] = format
				killAfter(t, config, after)
				whole(t, tree(t, dir))
				killAfter(t, config, len(history)) // never: it comes to its end
				whole(t, tree(t, dir))
				holds(t, dir)
			})
		}
	}
}

// killAfter starts the process, and kills it once it has said that a step is done,
// and has begun the next.
func killAfter(t *testing.T, config map[string]string, after int) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), "SLUIS_FILE_RUN="+string(text))
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == fmt.Sprint(after) {
			_ = command.Process.Kill()
		}
	}
	if err := command.Wait(); err != nil && after == len(history) {
		t.Fatal(err)
	}
}

// whole checks what a reader may see at any moment: parts can be read to their end.
func whole(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		as := formatOf(filepath.Base(name))
		if as == nil {
			continue // a manifest, or what was written aside and is hidden
		}
		if n, err := as.count([]byte(content)); err != nil || n != 1 && n != 1999 && n != 2000 {
			t.Errorf("%s has %d records: %v", name, n, err)
		}
	}
}

// holds checks the end of the history: nothing is left aside, the erased are gone, and
// the manifests tell the truth.
func holds(t *testing.T, dir string) {
	t.Helper()
	files := tree(t, dir)
	var names []string
	for name, content := range files {
		names = append(names, name)
		if filepath.Base(name) != manifestName {
			continue
		}
		var m manifest
		if err := json.Unmarshal([]byte(content), &m); err != nil {
			t.Fatal(err)
		}
		for i, part := range m.Files {
			file := files[filepath.Dir(name)+"/"+part.Name]
			if want, err := describe(formatOf(part.Name), part.Name, []byte(file)); err != nil || part != want {
				t.Errorf("%s: part %d is %+v, want %+v (%v)", name, i, part, want, err)
			}
		}
		if len(m.Files) != 3 {
			t.Errorf("%s has %d parts, want 3", name, len(m.Files))
		}
	}
	if len(names) != 8 {
		t.Errorf("there are %q", names)
	}
	for name, content := range legible(t, files) {
		if filepath.Base(name) != manifestName && strings.Contains(content, ".7@example.test") && !strings.Contains(name, "part-b6") {
			t.Errorf("%s has the values of who was erased", name)
		}
	}
}

// Parquet has the types that the columns have, and each value as it was.
func TestParquetReadByDuckDB(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, map[string]string{"directory": dir, "format": "parquet"})
	b := destinationtest.Batch("b", destination.Upsert)
	mustWrite(t, d, b)
	mustClose(t, d)
	path := filepath.Join(dir, "run=run-1", "part-b.parquet")
	var types []string
	described, err := duck(t).Query("SELECT column_name || ' ' || column_type FROM (DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false))", path)
	if err != nil {
		t.Fatal(err)
	}
	defer described.Close()
	for described.Next() {
		var one string
		if err := described.Scan(&one); err != nil {
			t.Fatal(err)
		}
		types = append(types, one)
	}
	if err := described.Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{"_op VARCHAR", "_key VARCHAR", "_id VARCHAR", "text VARCHAR", "count BIGINT", "score DOUBLE", "member BOOLEAN", "seen_at TIMESTAMP WITH TIME ZONE"}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	rows, err := duck(t).Query("SELECT _op, _key, _id, text, count, score, member, epoch_us(seen_at) FROM read_parquet(?, hive_partitioning = false)", path)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for i := 0; rows.Next(); i++ {
		var op, key, id string
		got := make([]any, 5)
		if err := rows.Scan(&op, &key, &id, &got[0], &got[1], &got[2], &got[3], &got[4]); err != nil {
			t.Fatal(err)
		}
		c := b.Changes[i]
		want := append([]any{}, c.Values...)
		if at, ok := want[4].(interface{ UnixMicro() int64 }); ok {
			want[4] = at.UnixMicro()
		}
		if diff := cmp.Diff(want, got); diff != "" || op != "upsert" || key != c.Key || id != c.ID {
			t.Errorf("row %d: %s %s %s (-want +got):\n%s", i, op, key, id, diff)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}
