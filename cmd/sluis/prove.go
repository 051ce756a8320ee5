package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sluis-cdp/sluis/cmd/internal/canary"
	"github.com/sluis-cdp/sluis/cmd/internal/edge"
	"github.com/sluis-cdp/sluis/cmd/internal/workspace"
	"github.com/sluis-cdp/sluis/consent/seal"
)

func proveCommand() *cli.Command {
	return &cli.Command{
		Name:  "prove",
		Usage: "canary data through the whole path, then a scan of every byte written; exit 1 if one is found where it should not be",
		Description: `Made-up people send events with a unique personal value in each place: ids, traits, properties, names of fields, addresses of pages,
titles, headers, faulty and refused events. The collector, the models and two syncs of a throw-away workspace run as they do in
production; then everything that was written is searched for each value, as it is and in other forms, such as percent, base64, hex,
hashes and UTF-16. Values that reach a destination because the person agreed to its purpose are expected there, and only there.

With --workspace it is your configuration, tracking plans and models that are tried, in a copy with keys, data and destinations of
its own: nothing of yours is read, changed or sent.`,
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "keep", Usage: "leave the folder in which it was tried"},
		},
		Action: func(c *cli.Context) (err error) {
			p := &proof{stderr: c.App.ErrWriter}
			for _, at := range c.Lineage() {
				if at.Command != nil && slices.Contains(at.LocalFlagNames(), "workspace") {
					p.configuration = workspaceDir(c)
				}
			}
			report, err := p.run(c.Context, c.Bool("keep"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = printJSON(c.App.Writer, report)
			} else {
				report.print(c.App.Writer)
			}
			if report.Holds {
				return err
			}
			return errors.Join(err, errReported)
		},
	}
}

// proof is one run of `sluis prove`.
type proof struct {
	configuration string // a workspace's folder; empty for that of `sluis init`
	stderr        io.Writer
	plant         func(*proof) error // for tests: called when all is written, before it is searched

	root       string // everything is below it
	w          *workspace.Workspace
	traffic    *proveTraffic
	set        canary.Set
	receiver   *proveReceiver
	exports    []byte
	purposes   [2]string // of the webhook and the file
	logger     *slog.Logger
	search     *proveSearch
	deliveries []*proveDelivery
}

// proveReport is the result.
type proveReport struct {
	Holds        bool             `json:"holds"`
	Canaries     int              `json:"canaries"`
	Patterns     int              `json:"patterns"`
	People       int              `json:"people"`
	Requests     int              `json:"requests"`
	Answers      map[string]int   `json:"answers"` // by status
	Places       []*provePlace    `json:"places"`
	Destinations []*proveDelivery `json:"destinations"`
	Problems     []string         `json:"problems,omitempty"`
	Seconds      float64          `json:"seconds"`
}

// proveDelivery is what a destination got, of what it should get and nothing
// else.
type proveDelivery struct {
	Name     string     `json:"destination"`
	Purpose  string     `json:"purpose"`
	Fields   []string   `json:"fields"`
	Expected int        `json:"expected"` // values of people who agreed to the purpose
	Arrived  int        `json:"arrived"`  // of those
	Bytes    int64      `json:"bytes"`
	Others   []proveHit `json:"others,omitempty"`

	expected map[string]bool // values
	arrived  map[string]bool
}

func (p *proof) run(ctx context.Context, keep bool) (_ *proveReport, err error) {
	began := time.Now()
	if p.root, err = os.MkdirTemp("", "sluis-prove-"); err != nil {
		return nil, err
	}
	if keep {
		fmt.Fprintf(p.stderr, "sluis: everything is in %s\n", p.root)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(p.root)) }()
	}
	restore, err := p.ownTemporaryFolder()
	if err != nil {
		return nil, err
	}
	defer restore()
	if err := p.makeWorkspace(); err != nil {
		return nil, err
	}
	if err := p.perform(ctx); err != nil {
		return nil, err
	}
	if p.plant != nil {
		if err := p.plant(p); err != nil {
			return nil, err
		}
	}
	if err := p.searchAll(ctx); err != nil {
		return nil, err
	}
	report := p.report()
	report.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
	return report, nil
}

// ownTemporaryFolder lets temporary files of this process and its plugins be
// where they are searched.
func (p *proof) ownTemporaryFolder() (restore func(), err error) {
	dir := filepath.Join(p.root, "tmp")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	before, was := os.LookupEnv("TMPDIR")
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return nil, err
	}
	return func() {
		if was {
			_ = os.Setenv("TMPDIR", before)
		} else {
			_ = os.Unsetenv("TMPDIR")
		}
	}, nil
}

// makeWorkspace makes the workspace to try: a new one, or a copy of somebody's
// configuration, with data, keys and syncs of its own.
func (p *proof) makeWorkspace() (err error) {
	dir := filepath.Join(p.root, "w")
	if p.configuration == "" {
		_, err = initWorkspace(dir, initOptions{Name: "prove"})
	} else {
		err = copyConfiguration(p.configuration, dir)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(workspace.Isolate(dir), os.RemoveAll(filepath.Join(dir, "syncs"))); err != nil {
		return fmt.Errorf("making a workspace of its own: %w", err)
	}
	if p.w, err = workspace.Open(dir); err != nil || p.configuration == "" {
		return err
	}
	return seal.Generate(seal.Dir(p.w.Path(p.w.Keys)), p.w.SealPurposes())
}

// copyConfiguration copies what a team keeps in git: all but data, keys and syncs.
func copyConfiguration(from, to string) error {
	original, err := workspace.Open(from)
	if err != nil {
		return err
	}
	out := []string{original.Path(original.Data), original.Path(original.Keys), original.Path(original.Syncs), original.Path(original.Models), filepath.Join(original.Dir, ".git")}
	err = errors.Join(copyFiles(original.Dir, to, out), copyFiles(original.Path(original.Models), filepath.Join(to, "sql"), nil))
	if err != nil {
		return fmt.Errorf("copying the configuration: %w", err)
	}
	return nil
}

// copyFiles copies a folder but for some below it.
func copyFiles(from, to string, but []string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(but, path):
			return filepath.SkipDir
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o600)
	})
}

// perform sends everything, and lets it go all the way.
func (p *proof) perform(ctx context.Context) (err error) {
	log, err := p.create("log.txt")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	p.logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p.receiver = &proveReceiver{}
	target, stop, err := serve(ctx, p.receiver)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := p.writeSyncs(target); err != nil {
		return err
	}
	scheduler, err := newScheduler(ctx, p.w, p.logger, log)
	if err != nil {
		return err
	}
	if err := p.collect(ctx); err != nil {
		return err
	}
	if _, err := scheduler.once(ctx); err != nil {
		return fmt.Errorf("running models and syncs: %w", err)
	}
	if err := errors.Join(p.keepExports(), p.rights(ctx)); err != nil {
		return err
	}
	if _, err := scheduler.once(ctx); err != nil { // which removes who was erased
		return fmt.Errorf("running models and syncs again: %w", err)
	}
	return p.commands(ctx)
}

// rights shows one person what is held of them, and erases another: what these
// write down is searched as well. What they print is the person's own, and is not.
func (p *proof) rights(ctx context.Context) error {
	for _, args := range [][]string{
		{"subject", "export", "--email", p.traffic.people[0].email, "--phone", p.traffic.people[0].phone},
		{"subject", "explain", "--email", p.traffic.people[0].email, "--sync", "prove_webhook"},
		{"subject", "erase", "--email", p.traffic.people[1].email, "--user-id", p.traffic.people[1].user, "--yes"},
		{"tracking", "replay"},
	} {
		var out bytes.Buffer
		if code := run(ctx, append([]string{"sluis"}, append(args, "--workspace", p.w.Dir)...), &out, &out); code != exitDone {
			return fmt.Errorf("sluis %s ended with %d; try --keep, and the command by itself", strings.Join(args[:2], " "), code)
		}
	}
	return nil
}

func (p *proof) create(name string) (*os.File, error) { return os.Create(filepath.Join(p.root, name)) }

// writeSyncs writes the syncs: two purposes that need direct identifiers, if
// there are two, to two destinations.
func (p *proof) writeSyncs(target string) error {
	var needs []string
	for _, purpose := range []string{"marketing", "advertising"} {
		if slices.Contains(p.w.SealPurposes(), purpose) {
			needs = append(needs, purpose)
		}
	}
	for _, purpose := range p.w.SealPurposes() {
		if purpose != "necessary" && !slices.Contains(needs, purpose) {
			needs = append(needs, purpose)
		}
	}
	if len(needs) == 0 {
		return errors.New("consent.seal_for names no purpose, so that nothing can ever be sent to a destination: there is no path to prove")
	}
	p.purposes = [2]string{needs[0], needs[min(1, len(needs)-1)]}
	secret := "whsec_cHJvdmUgcHJvdmUgcHJvdmUgcHJvdmUgcHJvdmU=" // of this run's own receiver
	exports := filepath.Join(p.root, "exports")
	dir := p.w.Path(p.w.Syncs)
	for _, folder := range []string{dir, exports} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	const sync = "model: profiles\nkey: profile_id\npurpose: %s\ndestination: %s\nconfig: {%s}\nmapping:\n  - {field: profile_id, column: profile_id}\n%smode: mirror\n"
	fields := "  - {field: email, sealed: email}\n"
	more := fields + "  - {field: phone, sealed: phone}\n  - {field: name, sealed: name}\n"
	webhook := fmt.Sprintf(sync, p.purposes[0], "webhook", "url: "+target+", secret: {file: keys/prove.secret}, allow_private: \"true\"", more)
	file := fmt.Sprintf(sync, p.purposes[1], "file", "directory: "+exports+", format: jsonl", fields)
	p.deliveries = []*proveDelivery{
		{Name: "webhook", Purpose: p.purposes[0], Fields: []string{"email", "phone", "name"}},
		{Name: "file", Purpose: p.purposes[1], Fields: []string{"email"}},
	}
	return errors.Join(
		os.WriteFile(p.w.Path(filepath.Join("keys", "prove.secret")), []byte(secret+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "prove_webhook.yaml"), []byte(webhook), 0o600),
		os.WriteFile(filepath.Join(dir, "prove_file.yaml"), []byte(file), 0o600))
}

// collect runs the collector while everybody comes by. What it shows while it
// runs is kept; the spool is searched before it lands for good.
func (p *proof) collect(ctx context.Context) (err error) {
	e, err := edge.Start(ctx, p.w, edge.Options{Logger: p.logger})
	if err != nil {
		return err
	}
	drained := false
	defer func() {
		if !drained {
			err = errors.Join(err, e.Drain())
		}
	}()
	answers, err := p.create("answers.txt")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answers.Close()) }()
	p.traffic = &proveTraffic{
		client: &http.Client{Timeout: 30 * time.Second}, url: e.URL(), writeKey: p.w.Sources[0].WriteKey, set: &p.set, answers: answers, statuses: make(map[int]int),
	}
	for _, purpose := range p.w.Policy.Purposes() {
		if purpose != "necessary" {
			p.traffic.purposes = append(p.traffic.purposes, string(purpose))
		}
	}
	stopTail, err := p.watch(ctx, e)
	if err != nil {
		return err
	}
	if err := p.traffic.send(ctx); err != nil {
		return errors.Join(err, stopTail())
	}
	if err := errors.Join(stopTail(), p.keepMetrics(ctx, e)); err != nil {
		return err
	}
	// Its segment stays until the collector ends, whatever has landed.
	if err := os.CopyFS(filepath.Join(p.root, "spool-while-running"), os.DirFS(p.w.SpoolDir())); err != nil {
		return fmt.Errorf("copying the spool: %w", err)
	}
	drained = true
	return e.Drain()
}

// watch keeps what the live tail shows. It returns once the tail shows something,
// and stop when it shows no more.
func (p *proof) watch(ctx context.Context, e *edge.Edge) (stop func() error, err error) {
	file, err := p.create("tail.txt")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	lines, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- edge.Tail(ctx, p.w, "", func(line []byte) error {
			select {
			case lines <- struct{}{}:
			default:
			}
			_, err := fmt.Fprintf(file, "%s\n", line)
			return err
		})
	}()
	stop = func() error {
		// The last events are on their way; a moment without one is the end.
		for quiet := false; !quiet; {
			select {
			case <-lines:
			case <-time.After(200 * time.Millisecond):
				quiet = true
			}
		}
		cancel()
		return errors.Join(<-ended, file.Close())
	}
	first := provePerson{number: -1, class: consentClasses[0], granted: p.traffic.purposes, user: "prove", anonymous: "prove"}
	for range 100 {
		if err := p.traffic.one(ctx, &first, map[string]any{"type": "track", "event": "Began", "userId": "prove-0", "context": map[string]any{"consent": p.traffic.consent(&first)}}); err != nil {
			return nil, errors.Join(err, stop())
		}
		select {
		case <-lines:
			return stop, nil
		case err := <-ended:
			cancel()
			return nil, errors.Join(fmt.Errorf("watching the live tail: %w", err), file.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, errors.Join(errors.New("the live tail shows nothing"), stop())
}

func (p *proof) keepMetrics(ctx context.Context, e *edge.Edge) error {
	file, err := p.create("metrics.txt")
	if err != nil {
		return err
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.OperationsURL()+path, nil)
		if err != nil {
			return err
		}
		response, err := p.traffic.client.Do(r)
		if err != nil {
			return fmt.Errorf("reading the metrics: %w", err)
		}
		err = response.Write(file)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			return fmt.Errorf("reading the metrics: %w", err)
		}
	}
	return file.Close()
}

// commands keeps what people see who look.
func (p *proof) commands(ctx context.Context) error {
	for i, args := range [][]string{
		{"ledger"},
		{"ledger", "--minutes", "--json"},
		{"tracking", "quarantine", "ls"},
		{"sync", "ls"},
		{"sync", "history"},
		{"sync", "rows", "prove_webhook"},
		{"collector", "inspect", "--records", "100000"},
		{"sql", "select * from sluis.vault", "--json"},
		{"doctor"},
	} {
		var out bytes.Buffer
		run(ctx, append([]string{"sluis"}, append(args, "--workspace", p.w.Dir)...), &out, &out)
		if err := os.WriteFile(filepath.Join(p.root, fmt.Sprintf("command-%d.txt", i)), out.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// proveReceiver keeps what the webhook sends, as it came.
type proveReceiver struct {
	mu   sync.Mutex
	body []byte
}

func (rc *proveReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	rc.body = append(rc.body, text...)
}

// keepExports keeps what the file destination has: an erasure takes from it.
func (p *proof) keepExports() error {
	return filepath.WalkDir(filepath.Join(p.root, "exports"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		p.exports = slices.Concat(p.exports, []byte(path+"\n"), text, []byte("\n"))
		return err
	})
}

// searchAll looks through the destinations, the warehouse and all files.
func (p *proof) searchAll(ctx context.Context) (err error) {
	s := newProveSearch(p.set.All(), p.traffic.markers)
	p.search = s
	p.receiver.mu.Lock()
	s.delivered(p.deliveries[0], p.receiver.body, p.traffic.people)
	p.receiver.mu.Unlock()
	if err := p.keepExports(); err != nil {
		return err
	}
	s.delivered(p.deliveries[1], p.exports, p.traffic.people)
	db, err := openWarehouse(ctx, p.w, "sluis prove", p.stderr)
	if err != nil {
		return err
	}
	if err := errors.Join(s.warehouse(ctx, db), s.parquet(ctx, db, p.root, p.w.Landing()), db.Close()); err != nil {
		return err
	}
	return s.files(p.root, placeOfFile)
}

// delivered looks through what a destination got.
func (s *proveSearch) delivered(d *proveDelivery, body []byte, people []provePerson) {
	d.Bytes, d.expected, d.arrived = int64(len(body)), make(map[string]bool), make(map[string]bool)
	for _, p := range people {
		if slices.Contains(p.granted, d.Purpose) && slices.Contains(p.granted, "identity") {
			for _, value := range map[string]string{"email": p.email, "phone": p.phone, "name": p.name} {
				d.expected[value] = slices.Contains(d.Fields, fieldOf(p, value))
			}
		}
	}
	for _, yes := range d.expected {
		if yes {
			d.Expected++
		}
	}
	place := &provePlace{seen: make(map[int]bool)}
	s.in(place, d.Name, body, func(c canary.Canary) bool {
		if d.expected[c.Value] {
			d.arrived[c.Value] = true
			return true
		}
		return false
	})
	d.Arrived, d.Others = len(d.arrived), place.Hits
}

func fieldOf(p provePerson, value string) string {
	switch value {
	case p.email:
		return "email"
	case p.phone:
		return "phone"
	default:
		return "name"
	}
}

// provePlaces are where things are written, in the order of their report, and the
// files that they are made of, by the beginning of their path. In the first ones
// there must be markers.
var provePlaces = []struct {
	name string
	must bool
	path []string
}{
	{"spool", true, []string{"spool-while-running/", "w/data/spool/"}},
	{"landed Parquet, decoded", true, nil},
	{"table of events", true, nil},
	{"models", true, nil},
	{"live tail", true, []string{"tail.txt"}},
	{"landed Parquet, as it is", false, []string{"w/data/landing/"}},
	{"file of the warehouse", false, []string{"w/data/warehouse.duckdb"}},
	{"quarantine", false, nil},
	{"ledger", false, nil},
	{"other landing tables", false, nil},
	{"state of the syncs", false, nil},
	{"other tables of the warehouse", false, nil},
	{"message ids", false, []string{"w/data/message-ids/"}},
	{"other data", false, []string{"w/data/"}},
	{"log of collector, syncs and plugins", false, []string{"log.txt"}},
	{"metrics and health", false, []string{"metrics.txt"}},
	{"answers to clients", false, []string{"answers.txt"}},
	{"output of commands", false, []string{"command-"}},
	{"temporary files", false, []string{"tmp/"}},
	{"keys", false, []string{"w/keys/"}},
	{"configuration and models", false, []string{"w/"}},
	{"other files", false, []string{""}},
}

// placeOfFile says what a file below the root is; empty for what a destination
// got, which is searched as that. A file that is nothing known is searched all the
// same.
func placeOfFile(path string) string {
	if strings.HasPrefix(path, "exports/") {
		return ""
	}
	for _, place := range provePlaces {
		for _, prefix := range place.path {
			if strings.HasPrefix(path, prefix) {
				return place.name
			}
		}
	}
	return "other files"
}

// report judges.
func (p *proof) report() *proveReport {
	r := &proveReport{
		Canaries: len(p.search.canaries), Patterns: p.search.values.Patterns(), People: len(p.traffic.people), Requests: p.traffic.requests,
		Answers: make(map[string]int), Places: p.search.places, Destinations: p.deliveries,
	}
	for status, n := range p.traffic.statuses {
		r.Answers[strconv.Itoa(status)] += n
	}
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	if len(p.traffic.markers) == 0 || r.Canaries < 1000 {
		problem("only %d canaries and %d markers were sent", r.Canaries, len(p.traffic.markers))
	}
	for _, place := range r.Places {
		if len(place.Hits) > 0 {
			problem("%s: %d canaries", place.Name, len(place.Hits))
		}
		if place.must && place.Markers == 0 {
			problem("%s: nothing that was sent is there, so that the search of it proves nothing", place.Name)
		}
	}
	for _, d := range r.Destinations {
		if len(d.Others) > 0 {
			problem("%s: %d values that nobody agreed to send there", d.Name, len(d.Others))
		}
		if d.Arrived < d.Expected || d.Expected == 0 {
			problem("%s: %d of %d values arrived that people agreed to send there", d.Name, d.Arrived, d.Expected)
		}
	}
	r.Holds = len(r.Problems) == 0
	return r
}

func (r *proveReport) print(w io.Writer) {
	fmt.Fprintf(w, "%d made-up people sent %d requests with %d personal values, each of its own. Searched for %d ways to write them down:\n\n", r.People, r.Requests, r.Canaries, r.Patterns)
	var rows [][]string
	for _, p := range r.Places {
		rows = append(rows, []string{p.Name, dash(p.Files), dash(p.Rows), strconv.FormatInt(p.Bytes, 10), dash(p.Markers), strconv.Itoa(len(p.Hits))})
	}
	printTable(w, []string{"place", "files", "rows", "bytes", "markers", "found"}, rows)
	fmt.Fprintln(w, "\nmarkers: words that may land in clear; they show that a place was written to")
	fmt.Fprintln(w, "\nWhat people agreed to send, and where it has to be:")
	fmt.Fprintln(w)
	rows = nil
	for _, d := range r.Destinations {
		rows = append(rows, []string{d.Name, d.Purpose, strings.Join(d.Fields, ", "), strconv.FormatInt(d.Bytes, 10), fmt.Sprintf("%d of %d", d.Arrived, d.Expected), strconv.Itoa(len(d.Others))})
	}
	printTable(w, []string{"destination", "purpose", "fields", "bytes", "arrived", "others"}, rows)
	r.printHits(w)
	if r.Holds {
		fmt.Fprintf(w, "\nNothing was found where it should not be (%.1f s).\n", r.Seconds)
		return
	}
	fmt.Fprintln(w, "\nIt does not hold:")
	for _, problem := range r.Problems {
		fmt.Fprintln(w, "  "+problem)
	}
}

// mostHits is how many are shown of one place.
const mostHits = 10

func (r *proveReport) printHits(w io.Writer) {
	show := func(hits []proveHit) {
		for i, h := range hits {
			if i == mostHits {
				fmt.Fprintf(w, "  … and %d more\n", len(hits)-i)
				return
			}
			fmt.Fprintf(w, "  %s: the %s sent in %s, %s\n", h.At, h.Kind, h.Where, h.Form)
		}
	}
	for _, p := range r.Places {
		if len(p.Hits) > 0 {
			fmt.Fprintf(w, "\nFound in: %s\n", p.Name)
			show(p.Hits)
		}
	}
	for _, d := range r.Destinations {
		if len(d.Others) > 0 {
			fmt.Fprintf(w, "\nSent to the %s without consent:\n", d.Name)
			show(d.Others)
		}
	}
}
