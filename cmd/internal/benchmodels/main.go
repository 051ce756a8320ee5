// Command benchmodels measures the models on the embedded warehouse: it lands
// events, builds all models from nothing, tests them, lands one percent more and
// builds again. BUDGETS.md bounds what it prints: the whole build, the share of
// it that the increment takes, and the memory.
//
// The figures are this machine's. Compare those of one run with each other.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	sqlproject "github.com/sluis-cdp/sluis/sql"
	"github.com/sluis-cdp/sluis/sql/duckdb"
	"github.com/sluis-cdp/sluis/sql/runner"
	"github.com/sluis-cdp/sluis/sql/warehouse"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchmodels:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("benchmodels", flag.ContinueOnError)
	b := bench{out: out}
	flags.IntVar(&b.events, "events", 1_000_000, "how many events land before the full build")
	flags.Float64Var(&b.share, "increment", 0.01, "how many of these land before the build after it, as a share")
	flags.StringVar(&b.memory, "memory", "2GB", "warehouse.memory_limit, beyond which queries spill to disk")
	flags.IntVar(&b.threads, "threads", 2, "threads of the warehouse; models are built one after the other")
	flags.StringVar(&b.dir, "dir", "", "keep what landed here, and land nothing if it is there already; default a temporary folder")
	flags.StringVar(&b.models, "models", "", "the folder of a dbt project to measure; default the one that comes with Sluis")
	flags.BoolVar(&b.tests, "tests", true, "run the tests, too")
	flags.DurationVar(&b.least, "least", 100*time.Millisecond, "leave models that took less out of the table")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "benchmodels"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	return b.run(ctx)
}

type bench struct {
	events  int
	share   float64
	memory  string
	threads int
	dir     string
	models  string
	tests   bool
	least   time.Duration
	out     io.Writer
}

// phase is one thing that was measured.
type phase struct {
	name    string
	took    time.Duration
	worked  time.Duration // processor time
	peak    int64         // bytes of memory, of the whole process
	results runner.Results
	cost    map[string]cost
}

// cost is what a node took.
type cost struct{ seconds, worked float64 }

func (b *bench) run(ctx context.Context) error {
	w := world{dir: b.dir, events: b.events, more: int(float64(b.events) * b.share)}
	if err := w.land(ctx); err != nil {
		return fmt.Errorf("land events: %w", err)
	}
	if err := os.RemoveAll(b.database()); err != nil {
		return err
	}
	if err := w.show(false); err != nil {
		return err
	}
	full, err := b.build(ctx, "full build", (*runner.Project).Run)
	if err != nil {
		return err
	}
	var tests phase
	if b.tests {
		if tests, err = b.build(ctx, "tests", (*runner.Project).Test); err != nil {
			return err
		}
	}
	if err := w.show(true); err != nil {
		return err
	}
	increment, err := b.build(ctx, "increment", (*runner.Project).Run)
	if err != nil {
		return err
	}
	idle, err := b.build(ctx, "nothing new", (*runner.Project).Run)
	if err != nil {
		return err
	}
	return b.print(full, tests, increment, idle)
}

func (b *bench) database() string { return filepath.Join(b.dir, "warehouse.duckdb") }

// build opens the warehouse as a command would, and measures that, too.
func (b *bench) build(ctx context.Context, name string, do func(*runner.Project, context.Context, warehouse.Driver, string) (runner.Results, error)) (p phase, err error) {
	p.name, p.cost = name, map[string]cost{}
	before := worked()
	options := runner.Options{Dir: sqlproject.Files, Threads: 1, Vars: map[string]any{"as_of": asOf}, Progress: func(r runner.NodeResult) {
		now := worked()
		p.cost[r.Name] = cost{r.Seconds, (now - before).Seconds()}
		fmt.Fprintf(os.Stderr, "%s: %s %.2f s (%.2f)\n", name, r.Name, r.Seconds, (now - before).Seconds())
		before = now
	}}
	if b.models != "" {
		options.Dir = os.DirFS(b.models)
	}
	forgetPeak()
	started, idle := time.Now(), worked()
	project, err := runner.Load(options)
	if err != nil {
		return p, err
	}
	d, err := duckdb.Open(ctx, duckdb.Config{Path: b.database(), Landing: filepath.Join(b.dir, "landing"), MemoryLimit: b.memory, Threads: b.threads})
	if err != nil {
		return p, err
	}
	p.results, err = do(project, ctx, d, "")
	err = errors.Join(err, p.results.Err(), d.Close())
	p.took, p.worked = time.Since(started), worked()-idle
	p.peak = peak()
	return p, err
}

// print writes a line for each model, the slowest first, and the sums. The
// processor time, beside the time, is steadier on a machine that others use.
func (b *bench) print(full, tests, increment, idle phase) error {
	fmt.Fprintf(b.out, "%d events, then %g %% more; DuckDB with memory_limit %s and %d threads; %s/%s, %d processors\n\n",
		b.events, 100*b.share, b.memory, b.threads, runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	phases := []phase{full, increment, idle}
	line := func(first, rows string, of func(phase) string) {
		fmt.Fprintf(w, "%s\t%s\t", first, rows)
		for _, p := range phases {
			fmt.Fprintf(w, "%s\t", of(p))
		}
		fmt.Fprintln(w)
	}
	line("model: time (processor time)", "rows", func(p phase) string { return p.name })
	slices.SortFunc(full.results, func(x, y runner.NodeResult) int { return cmp.Compare(y.Seconds, x.Seconds) })
	for _, r := range full.results {
		if max(r.Seconds, increment.cost[r.Name].seconds) >= b.least.Seconds() {
			line(r.Name, count(r.Rows), func(p phase) string {
				return fmt.Sprintf("%.2f s (%.2f)", p.cost[r.Name].seconds, p.cost[r.Name].worked)
			})
		}
	}
	line("all", "", func(p phase) string { return fmt.Sprintf("%.1f s (%.1f)", p.took.Seconds(), p.worked.Seconds()) })
	line("peak memory", "", func(p phase) string { return fmt.Sprintf("%.2f GiB", float64(p.peak)/(1<<30)) })
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "\n%.0f events/s. The increment takes 1/%.1f of the full build, and 1/%.1f of its processor time. %d tests take %.1f s (%.1f) and %.2f GiB.\n",
		float64(b.events)/full.took.Seconds(), full.took.Seconds()/increment.took.Seconds(), full.worked.Seconds()/increment.worked.Seconds(),
		len(tests.results), tests.took.Seconds(), tests.worked.Seconds(), float64(tests.peak)/(1<<30))
	return nil
}

func count(rows int64) string {
	if rows < 0 {
		return ""
	}
	return fmt.Sprint(rows)
}

// worked is the processor time that this process has had.
func worked() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage) //nolint:errcheck // it cannot fail for the process itself
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// forgetPeak has the kernel measure the peak of memory anew.
func forgetPeak() {
	os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) //nolint:errcheck // elsewhere than on Linux there is no peak
}

// peak is the most memory that the process had since forgetPeak; zero if that
// cannot be told here.
func peak() int64 {
	status, _ := os.ReadFile("/proc/self/status") // as above
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}
